"""Where a pretrained checkpoint's files are: a local folder, the local cache, or the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jichu.core.errors import UsageError, missing_extra
from jichu.core.files import read_json

_FILES = [
    "config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "chat_template.jinja",
]  # fmt: skip


def find(name: str) -> Path:
    """The folder with a checkpoint's files; fetched where it is neither local nor in the cache."""
    if name.startswith((".", "/", "~")):
        folder = Path(name).expanduser()
        if not folder.is_dir():
            raise UsageError(
                f"no folder {name}", expected="hf:./folder with config.json and model.safetensors"
            )
        return folder
    repository, _, revision = name.partition("@")
    try:
        import huggingface_hub as hub
    except ImportError:
        raise missing_extra("huggingface_hub", "transformers") from None
    try:
        folder = Path(_snapshot(repository, revision, local_files_only=True))
        if _is_whole(folder):
            return folder
    except hub.errors.LocalEntryNotFoundError:
        pass
    except hub.errors.HFValidationError as error:
        raise UsageError(
            f"hf:{name} names nothing: {error}", expected="hf:owner/name or hf:./folder"
        ) from None
    return Path(_fetch(repository, revision))


def _is_whole(folder: Path) -> bool:
    """Whether all of a checkpoint is in the cache."""
    shards: set[str] = set()
    for index in folder.glob("*.safetensors.index.json"):
        shards |= set(read_json(index, ("weight_map",))["weight_map"].values())
    return (
        (folder / "config.json").exists()
        and any(folder.glob("*.safetensors"))
        and all((folder / shard).exists() for shard in shards)
    )


def _snapshot(repository: str, revision: str, **options: Any) -> str:
    import huggingface_hub as hub

    return hub.snapshot_download(
        repository, revision=revision or None, allow_patterns=_FILES, ignore_patterns="*/*", **options
    )


def _fetch(repository: str, revision: str) -> str:
    """Ask the hub; each of its answers becomes a sentence."""
    import huggingface_hub as hub

    page, token = f"https://huggingface.co/{repository}", "a token, by HF_TOKEN or `hf auth login`"
    try:
        return _snapshot(repository, revision)
    except hub.errors.GatedRepoError:
        raise UsageError(
            f"{repository} is gated", where=page, expected=f"access asked for there, and {token}"
        ) from None
    except hub.errors.RepositoryNotFoundError:
        raise UsageError(
            f"{repository} is not on the hub, or is private",
            where=page,
            expected=f"a name as it stands there; if it is private, {token}; a local folder is hf:./{repository}",
        ) from None
    except hub.errors.RevisionNotFoundError:
        raise UsageError(
            f"{repository} has no revision {revision!r}", where=page, expected="a branch, a tag or a commit"
        ) from None
    except hub.errors.HfHubHTTPError as error:
        status = error.response.status_code
        expected = token if status in (401, 403) else "the hub at work; try again later"
        raise UsageError(
            f"the hub answered {status} for {repository}", where=page, expected=expected
        ) from None
    except (hub.errors.LocalEntryNotFoundError, hub.errors.HTTPError):  # no network, or lost on the way
        raise UsageError(
            f"{repository} is not in the cache and the hub cannot be reached",
            where=hub.constants.HF_HUB_CACHE,
            expected=f"a network; or where there is one `hf download {repository} --local-dir {repository}`,"
            f" that folder brought here, and hf:./{repository}",
        ) from None
