"""Models that are taught to write an answer: to a text, or in a conversation."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from jichu.auditing import table as tables
from jichu.core.errors import UsageError
from jichu.core.files import write_table
from jichu.core.progress import task
from jichu.core.ranks import rank, world_size
from jichu.data.batches import Batches, gather, in_order
from jichu.data.dataset import Dataset
from jichu.data.ragged import Ragged
from jichu.data.schema import LABEL
from jichu.data.special import TextInputs
from jichu.data.texts import TEXT, text_of, to_read
from jichu.data.tokenizer import Template, Tokenizer
from jichu.data.tokens import Second, Tokens, prompted, tokenise, tokenise_chats
from jichu.models import folder as model_folder
from jichu.models.generate import generate, is_whole
from jichu.models.model import Model
from jichu.objectives.base import Objective
from jichu.train.evaluate import RowLosses, row_losses
from jichu.train.fit import fit

from .build import Work, adaptation, spaced, start_supervised, tell_start
from .config import FinetuneStage
from .results import Result, look, part_of, result, settle_adapters

_AT_ONCE = 2**13  # tokens evaluated together
_WRITTEN = 64  # answers written together
_SPARE = 8  # tokens that may be written beyond the length of the right answer
_MOST = 2000  # held-out rows that are answered; the likelihood is of all


def finetune(stage: FinetuneStage, work: Work) -> Result:
    """Teach a model the answers of the training rows; measure how likely it finds those held out, and,
    conversations aside, whether it writes them."""
    dataset, recipe, tokenizer = work.dataset, work.recipe, work.tokenizer
    assert tokenizer is not None and work.text is not None
    rows = dataset.draw(None, seed=recipe.seed, draw=0)
    model, config, objective = start_supervised(stage, rows, work)
    assert objective is not None
    columns = answering(dataset, tokenizer, work.text.context, whole=is_whole(model.backbone))
    lengths = columns["tokens"].lengths
    tell_start(stage, work)
    remarks = look(model, stage, rows, work, stage.name)
    evaluate = None
    batches = Batches(columns, rows, batch_size=stage.batch_size, seed=recipe.seed, lengths=lengths)
    if "validation" in dataset.splits and len(held := dataset.labelled("validation")):
        stage = spaced(stage, len(batches), len(rows), len(held))

        def evaluate(module: nn.Module) -> dict[str, float]:
            return {"validation_loss": _losses(module, objective, columns, held, recipe.seed).mean}

    fitted = fit(model, objective, batches, stage, adapt=adaptation(stage), evaluate=evaluate, monitor=stage.monitor,
                 seed=recipe.seed, folder=work.folder, name=stage.name, resume=work.resume, records=dataset.names)  # fmt: skip
    based = settle_adapters(model, stage, work)
    made = None
    if "test" in dataset.splits:
        held_out = dataset.labelled("test")
        made = measured(model, objective, columns, dataset, tokenizer, held_out, stage.name, recipe.seed)
    if work.folder.writes:
        model_folder.save(work.folder.stage_model(stage.name), model, config, tokenizer, weights=not based)
        if made is not None:
            write_table(part_of(work, stage.name, 0, LABEL), made)
    return {
        **result(fitted, model, work, stage.name, {"labelled_rows": len(rows)}),
        "warnings": remarks + fitted.remarks,
    }


def answering(dataset: Dataset, tokenizer: Tokenizer, context: int, *, whole: bool) -> dict[str, Any]:
    """The columns that answers are learnt from: `tokens` and `answer` [N, T'] of a model that is `whole`, else
    `tokens` of both and `answers` [N, T], 1 where they are the answer's."""
    folder = dataset.store
    if dataset.chat:
        if whole:
            raise UsageError(
                "conversations are one text, and this model reads and writes apart", where="backbone",
                expected="a decoder, such as llama-mini",
            )  # fmt: skip
        ids, answers = tokenise_chats(dataset.texts["text"], tokenizer, folder)
        chats = Tokens.of(tokenizer, context, ids, template=Template(), what="conversations")
        return {
            "tokens": chats,
            "answers": Tokens(answers, template=Template(), context=context, side=chats.side),
        }
    if "text_2" in dataset.texts:
        raise UsageError("a pair of texts and an answer", where="data.text", expected="one column to read")
    asked, answer = (tokenise(dataset.texts[key], tokenizer, folder, key) for key in ("text", LABEL))
    if whole:
        return {
            "tokens": Tokens.of(tokenizer, context, asked),
            "answer": Tokens.of(tokenizer, context, answer, what="answers"),
        }
    both = Tokens.of(
        tokenizer, context, asked, answer, template=prompted(tokenizer), what="questions with answers"
    )
    return {"tokens": both, "answers": Second(both)}


def questions(texts: Ragged, model: Model, tokenizer: Tokenizer, inputs: TextInputs) -> list[list[int]]:
    """The tokens after which a model that learnt answers writes those to some texts."""
    if inputs.chat:
        said = ([{"role": "user", "content": text_of(texts, row)}] for row in range(len(texts)))
        return [tokenizer.chat(messages, prompt=True)[0] for messages in said]
    template = tokenizer.template()
    if not is_whole(model.backbone):
        before, between, _ = prompted(tokenizer)
        template = Template(before, (), between)
    tokens = Tokens.of(tokenizer, inputs.context, tokenise(texts, tokenizer, None), template=template)
    return [[i for i in row if i >= 0] for row in tokens.index_select(0, torch.arange(len(texts))).tolist()]


def _losses(
    model: nn.Module, objective: Objective, columns: dict[str, Any], rows: Tensor, seed: int
) -> RowLosses:
    lengths = columns["tokens"].lengths
    mine = rows[lengths[rows].argsort(descending=True, stable=True)][rank() :: world_size()]
    return row_losses(model, objective, in_order(columns, mine, 512, lengths, _AT_ONCE), seed=seed)


def measured(
    model: Model, objective: Objective, columns: dict[str, Any], dataset: Dataset, tokenizer: Tokenizer,
    held_out: Tensor, name: str, seed: int,
) -> pa.Table:  # fmt: skip
    """How likely a model finds the right answers of some rows, and, conversations aside, what it writes."""
    if not dataset.chat:
        held_out = held_out[:: max(1, -(-len(held_out) // _MOST))]
    found = _losses(model, objective, columns, held_out, seed)
    order = found.rows.argsort()
    rows, nats = found.rows[order], (found.losses * found.weights)[order]
    key = "text" if dataset.chat else LABEL
    column = to_read({TEXT: dataset.texts[key]}, dataset.chat)[TEXT]  # of a conversation what is said
    truth = [text_of(column, row) for row in rows.tolist()]
    sizes = torch.stack([found.weights[order], torch.tensor([float(len(t.encode())) for t in truth])], 1)
    written, right = [""] * len(truth), [False] * len(truth)
    if not dataset.chat:
        written = written_for(model, tokenizer, columns, rows)
        pairs = zip(tokenizer.echo(truth), written, strict=True)
        right = [told.strip() == said.strip() for told, said in pairs]
    records = [dataset.names[row] for row in rows.tolist()]
    return tables.of_language(name, rows, records, sizes, nats, (truth, written, right))


def written_for(
    model: Model, tokenizer: Tokenizer, columns: dict[str, Any], rows: Tensor, most: int | None = None
) -> list[str]:
    """What a model answers, the likeliest token each time, to questions that are in the columns; at most a few
    tokens more than the right answers have."""
    found: dict[int, str] = {}
    with task("answer", len(rows)) as shown:
        for part in rows[columns["tokens"].lengths[rows].argsort(stable=True)].split(_WRITTEN):
            batch = gather(columns, part)
            tokens = batch["tokens"]
            asked = tokens >= 0 if "answer" in batch else batch["answers"] == 0
            right = batch["answer"] >= 0 if "answer" in batch else batch["answers"] == 1
            prompts = [row[mask].tolist() for row, mask in zip(tokens, asked, strict=True)]
            longest = columns["tokens"].context - (0 if "answer" in batch else max(map(len, prompts)))
            room = max(1, min(longest, most or int(right.sum(1).max()) + _SPARE))
            texts = generate(model, tokenizer, prompts, most=room, temperature=0)
            found |= dict(zip(part.tolist(), (g.text for g in texts), strict=True))
            shown.advance(len(part))
    return [found[row] for row in rows.tolist()]
