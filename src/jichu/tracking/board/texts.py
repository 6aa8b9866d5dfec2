"""What the page of the board says; its scripts ask for a sentence by its English."""

from __future__ import annotations

from jichu.core.words import speaking, words

_LEFT = {
    name: f"{{{name}}}"
    for name in ("all", "count", "first", "found", "last", "name", "one", "rows", "step", "two", "why")
}


def texts(language: str) -> dict[str, str]:
    """The sentences in a language, by their English; what is filled in is left to the page."""
    with speaking("en"):
        english = _said()
    with speaking(language):
        return dict(zip(english, _said(), strict=True))


def _said() -> list[str]:
    return [
        words("All runs"),
        words("As a table"),
        words("Back"),
        words("better by"),
        words("Cancel"),
        words("Close"),
        words("Compare"),
        words("Compare row by row"),
        words("Compare {name}", **_LEFT),
        words("Comparing …"),
        words("Compression"),
        words("damaged"),
        words("Data"),
        words("Environment"),
        words("every state"),
        words("every tag"),
        words("failed"),
        words("finished"),
        words("Go on"),
        words("How it was made"),
        words("interrupted"),
        words("Keep"),
        words("key"),
        words("logarithmic"),
        words("metric"),
        words("Model card"),
        words("more than chance"),
        words("name"),
        words("newest first"),
        words("Next"),
        words("no more than chance"),
        words("Nothing differs."),
        words("Nothing is logged yet."),
        words("Pages of this run"),
        words("progress"),
        words("Recipe"),
        words("Report"),
        words("result"),
        words("Results"),
        words("rows a second"),
        words("run"),
        words("running"),
        words("Runs"),
        words("Samples"),
        words("Search names, stages, tags"),
        words("size"),
        words("smoothing"),
        words("Sort by"),
        words("Speed"),
        words("stage"),
        words("Stages"),
        words("started"),
        words("state"),
        words("State"),
        words("step"),
        words("step {step}", **_LEFT),
        words("Stop"),
        words("Stop it"),
        words("Stop {name}? It ends after this step and can be gone on with by --resume.", **_LEFT),
        words("Tag"),
        words("Tags"),
        words("Tags, with blanks between them"),
        words("The run {name} is gone; what is shown is what was last known of it.", **_LEFT),
        words("The server does not answer; trying again …"),
        words("These runs cannot be compared row by row: {why}", **_LEFT),
        words("This server asks for a token."),
        words("This token is not known here."),
        words("Token"),
        words("took"),
        words("utilisation"),
        words("What differs in the recipes"),
        words("While training"),
        words("{count} damaged rows are left out.", **_LEFT),
        words("{found} of {all} runs", **_LEFT),
        words("{name}: {count} points, from {first} to {last}", **_LEFT),
        words("{one} against {two} on the same {rows} rows", **_LEFT),
    ]
