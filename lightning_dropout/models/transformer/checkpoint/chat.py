"""The chat template of a checkpoint folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from lightning_dropout.models.transformer.checkpoint.folder import read_json
from lightning_dropout.models.transformer.checkpoint.optional import optional_module

__all__ = ["ChatTemplate"]


class ChatTemplate:
    """Writes a conversation as the text that an Instruct model was trained on.

    Templates come with checkpoints, so they run in jinja2's sandbox.

    Example:
        >>> template = ChatTemplate("{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>")
        >>> template.render([{"role": "user", "content": "Hello"}])
        '<user>Hello<assistant>'
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        environment = optional_module("jinja2.sandbox").ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _refuse, "strftime_now": _now}
        self._template = environment.from_string(source)
        self._special_tokens = dict(special_tokens or {})

    @classmethod
    def from_folder(cls, folder: Path) -> ChatTemplate | None:
        """The default template of the folder, if it has one."""
        settings = read_json(folder, "tokenizer_config.json", default={})
        source = settings.get("chat_template")
        if (path := folder / "chat_template.jinja").is_file():
            source = path.read_text(encoding="utf-8")
        if isinstance(source, list):
            source = {template["name"]: template["template"] for template in source}.get("default")
        if source is None:
            return None
        tokens = {name: value for name, value in settings.items() if name.endswith("_token")}
        contents = {name: value["content"] if isinstance(value, dict) else value for name, value in tokens.items()}
        return cls(source, {name: value for name, value in contents.items() if isinstance(value, str)})

    def render(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True) -> str:
        """The text of ``messages``, each with ``role`` and ``content``, up to where the reply begins.

        Raises:
            ValueError: If the template does not accept the messages.
        """
        try:
            text: str = self._template.render(
                messages=list(messages),
                add_generation_prompt=add_generation_prompt,
                tools=None,
                documents=None,
                **self._special_tokens,
            )
        except optional_module("jinja2").TemplateError as error:
            raise ValueError(f"The chat template does not accept these messages: {error}") from None
        return text


def _to_json(value: Any, indent: int | None = None) -> str:
    """Unlike jinja2's own filter, this one does not escape what HTML would need escaped."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise optional_module("jinja2").TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
