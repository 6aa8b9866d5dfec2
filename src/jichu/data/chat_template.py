"""Conversations as one text, by a chat template: a program in Jinja that comes with a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from jichu.core.errors import DataError, UsageError

Message = dict[str, Any]  # "role": system, user or assistant; "content"
TURN, TURN_END = "<|im_start|>", "<|im_end|>"
# The form that OpenAI called ChatML, in the dialect of `transformers`: `generation` marks what is learnt.
CHATML = (
    "{{ bos_token }}{% for message in messages %}"
    f"{{{{ '{TURN}' + message['role'] + '\\n' }}}}"
    "{% if message['role'] == 'assistant' %}"
    f"{{% generation %}}{{{{ message['content'] | trim + '{TURN_END}' }}}}{{% endgeneration %}}"
    f"{{% else %}}{{{{ message['content'] | trim + '{TURN_END}' }}}}{{% endif %}}"
    "{{ '\\n' }}{% endfor %}"
    f"{{% if add_generation_prompt %}}{{{{ '{TURN}assistant\\n' }}}}{{% endif %}}"
)
_OPEN, _CLOSE = "\ufdd0", "\ufdd1"  # around an answer while it is rendered; no text holds these
_NO_MARKS = {ord(_OPEN): None, ord(_CLOSE): None}


class Rendered(NamedTuple):
    """The text of a conversation, and where in it the answers are, [start, end) each."""

    text: str
    answers: list[tuple[int, int]]


class _Generation(Extension):
    """`{% generation %} … {% endgeneration %}` puts marks around what is between."""

    tags = {"generation"}  # noqa: RUF012 (as jinja2 has it)

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("marked"), [], [], body).set_lineno(line)

    def marked(self, caller: Callable[[], str]) -> str:
        return _OPEN + caller() + _CLOSE


@lru_cache(maxsize=8)
def _compiled(template: str) -> jinja2.Template:
    """In the sandbox, because templates come from anywhere, with what `transformers` gives them."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent
    )
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(template)


def render(template: str, messages: list[Message], *, prompt: bool = False, **variables: str) -> Rendered:
    """A conversation as a template puts it; with `prompt` up to where the next answer begins.

    Answers are what the template marks as generated; where it marks nothing, what each assistant's
    message adds to the prompt before it. DataError where the template refuses the messages, UsageError
    where answers cannot be told apart.
    """
    messages = [_plain(message) for message in messages]

    def text(count: int, prompt: bool) -> str:
        try:
            return _compiled(template).render(
                messages=messages[:count], add_generation_prompt=prompt, **variables
            )
        except jinja2.TemplateError as error:
            raise DataError(
                f"the chat template refuses the conversation: {error}",
                expected="messages as {role: user, content: …}, user and assistant in turn",
            ) from None

    whole = text(len(messages), prompt)
    if _OPEN in whole:
        return _unmarked(whole)
    answers = []
    for i, message in enumerate(messages):
        if message.get("role") == "assistant":
            before, after = text(i, True), text(i + 1, False)
            if not (after.startswith(before) and whole.startswith(after)):
                raise UsageError(
                    "the chat template does not tell where an answer begins and ends: it writes an earlier"
                    " message differently once others follow",
                    expected="a template with {% generation %} around the answers",
                )
            answers.append((len(before), len(after.rstrip())))
    return Rendered(whole, answers)


def _plain(message: Message) -> Message:
    return {k: v.translate(_NO_MARKS) if isinstance(v, str) else v for k, v in message.items()}


def _unmarked(text: str) -> Rendered:
    first, *rest = text.split(_OPEN)
    answers = []
    for part in rest:
        answer, _, after = part.partition(_CLOSE)
        answers.append((len(first), len(first) + len(answer)))
        first += answer + after
    return Rendered(first, answers)
