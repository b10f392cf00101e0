"""What kind of dropout a rate is for, told from names."""

from __future__ import annotations

import re

__all__ = ["KINDS", "is_attention_name", "is_rate_name", "kind_of_attribute", "same_rate"]

#: The kinds of this package's layers and of the storages it knows; ``register_site`` can name others.
KINDS = (
    *("element", "channel", "block", "path", "layer", "attn_head", "token", "embedding", "attention", "context"),
    *("locked", "weight", "gaussian", "alpha", "concrete", "recurrent"),
)

# A name is that of a rate if one of its words says so and none says that it is something else.
_RATE_WORD = re.compile(
    r"(.*_)?([a-z0-9]*[dD]ropout\w*|(p|layer|res|attn|emb|ff)?drop[s0-9]?|drop(path|block|head|key|connect|att))(_.*)?"
)
_OTHER_WORD = re.compile(
    r"(^|_)(lr|r|last|factor|scale|steps?|epochs?|warmup|num|idx|dim|size|threshold|temperature|coef|loss|reg\w*)(_|$)"
)

_KINDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(^|_)layer_?drop"), "layer"),
    (re.compile(r"path|stochastic_depth|drop_connect"), "path"),
    (re.compile(r"drop_?block"), "block"),
    (re.compile(r"drop_?head(_|s?$)"), "attn_head"),
    (re.compile(r"(^|_)(tokens?|patch)(_|$)"), "token"),
    (re.compile(r"^weight_?drop"), "weight"),
    (re.compile(r"^att(entio)?n_((probs|weights)_)?p?drop(out)?(_|$)|^dropatt$"), "attention"),
)
# Classes such as BertSelfAttention, whose plain "dropout" is on the weights; not T5LayerSelfAttention, a sublayer.
_ATTENTION_CLASS = re.compile(r"(?!.*Layer).*(Attention|Attend|Attn)\d*")
_SUFFIX = re.compile(r"_(p|probs?|rate|ratio)$")


def is_rate_name(name: str) -> bool:
    """Whether an attribute of this name would hold a dropout rate."""
    return _RATE_WORD.fullmatch(name) is not None and _OTHER_WORD.search(name) is None


def kind_of_attribute(name: str, class_name: str) -> str:
    """The kind of the rate, or the dropout layer, that a module of class ``class_name`` keeps under ``name``."""
    for pattern, kind in _KINDS:
        if pattern.search(name):
            return kind
    if _stem(name) in ("dropout", "drop") and is_attention_name(class_name):
        return "attention"
    return "element"


def is_attention_name(class_name: str) -> bool:
    """Whether a class of this name computes attention."""
    return _ATTENTION_CLASS.fullmatch(class_name) is not None


def same_rate(name: str, other: str) -> bool:
    """Whether two attributes of one module name the same rate, as ``dropout`` and ``dropout_prob`` do."""
    return _stem(name) == _stem(other)


def _stem(name: str) -> str:
    return _SUFFIX.sub("", name)
