import json
from datetime import datetime

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from lightning_dropout.models.transformer.checkpoint.chat import ChatTemplate

MESSAGES = [{"role": "system", "content": "Be <brief> & kind."}, {"role": "user", "content": " Grüß dich \n"}]
TEMPLATE = """
{{- bos_token }}
{%- if not date is defined %}
    {%- set date = strftime_now("%d %b %Y") %}
{%- endif %}
{%- for message in messages %}
    {%- if loop.index > 5 %}{% break %}{% endif %}
    {{- '<|' + message['role'] + '|>\\n' + message['content'] | trim + eos_token + '\\n' }}
    {{- message | tojson }}
{%- endfor %}
    {% if tools is none %}no tools{% endif %}

{%- if add_generation_prompt %}
    {{- '<|assistant|>' + date }}
{%- endif %}
"""


@pytest.mark.parametrize("add_generation_prompt", [True, False])
def test_the_text_is_that_of_the_reference(add_generation_prompt):
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")), **tokens)
    expected = tokenizer.apply_chat_template(
        MESSAGES, chat_template=TEMPLATE, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    assert ChatTemplate(TEMPLATE, tokens).render(MESSAGES, add_generation_prompt=add_generation_prompt) == expected
    assert (datetime.now().strftime("%Y") in expected) == add_generation_prompt


def test_a_template_is_found_in_each_place_where_folders_keep_it(tmp_path):
    assert ChatTemplate.from_folder(tmp_path) is None
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps({"bos_token": "<s>"}))
    assert ChatTemplate.from_folder(tmp_path) is None
    settings.write_text(json.dumps({"chat_template": "one{{ bos_token }}", "bos_token": {"content": "<s>"}}))
    assert ChatTemplate.from_folder(tmp_path).render([]) == "one<s>"
    named = [{"name": "tool_use", "template": "none"}, {"name": "default", "template": "two"}]
    settings.write_text(json.dumps({"chat_template": named}))
    assert ChatTemplate.from_folder(tmp_path).render([]) == "two"
    (tmp_path / "chat_template.jinja").write_text("three")
    assert ChatTemplate.from_folder(tmp_path).render([]) == "three"


def test_a_template_may_refuse_the_messages():
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(ValueError, match="The chat template does not accept these messages: roles must alternate"):
        template.render(MESSAGES)


def test_a_template_cannot_leave_the_sandbox():
    with pytest.raises(ValueError, match="unsafe"):
        ChatTemplate("{{ ''.__class__.__mro__[1].__subclasses__() }}").render(MESSAGES)
