"""Keys, tokens and passwords are taken out of every text that is kept or printed, here and nowhere else.

What counts as a secret: the name and password in a URL, the forms that well-known services give their tokens, what
follows a name such as `api_key=`, and the values of environment variables whose names say what they hold
(`WANDB_API_KEY`, `HF_TOKEN`, `DB_PASSWORD`).
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

HIDDEN = "***"
"""Stands in the place of a secret."""
_SHORTEST = 8
"""Characters of a value of the environment that is hidden; a shorter one would be found in any text."""
_NAMES = r"(?:api[_-]?key|access[_-]?key|secret[_-]?key|private[_-]?key|token|secret|password|passwd)"
_NAMED = re.compile(rf"{_NAMES}$", re.IGNORECASE)
_TOKENS = (
    r"\bsk-[\w-]{20,}",  # OpenAI, Anthropic and others
    r"\bgh[pousr]_\w{20,}",
    r"\bgithub_pat_\w{20,}",
    r"\bglpat-[\w-]{20,}",
    r"\bhf_[A-Za-z0-9]{20,}",
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    r"\bAIza[\w-]{30,}",
    r"\bxox[abeoprs]-[\w-]{10,}",
    r"\bwandb_v\d+_\w{20,}",
    r"\bnpm_\w{30,}",
    r"\bpypi-[\w-]{20,}",
    r"\bdapi[0-9a-f]{32}\b",
    r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,}",  # JSON Web Token (RFC 7519)
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
)
_FORMS = re.compile("|".join(_TOKENS))
_IN_URL = re.compile(r"(\b[a-z][a-z0-9+.-]{1,20}:/{1,2})[^\s/?#'\"]+(?=@)", re.IGNORECASE)
"""With one slash, too: as a path a URL loses the other."""
_AFTER_NAME = re.compile(rf"({_NAMES}(?:\s?=\s?['\"]?|['\"]\s?:\s?['\"]))(?!\*\*\*)[^\s'\"&,;]{{6,}}", re.IGNORECASE)
_BEARER = re.compile(r"\b(bearer\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_WANDB_KEY = re.compile(r"\b[0-9a-f]{40}\b")
"""W&B's older keys; a hash of Git looks the same, so that it is hidden in command lines alone."""


def redacted(text: str) -> str:
    """A text without the secrets in it.

    Example:
        >>> redacted("ray://me:hunter2@head:10001 does not answer")
        'ray://***@head:10001 does not answer'
        >>> redacted("--set loss.api_key=0123456789")
        '--set loss.api_key=***'
    """
    return _redacted(text, _of_environment())


def _redacted(text: str, of_environment: re.Pattern[str] | None) -> str:
    if len(text) < _SHORTEST and "@" not in text:
        return text
    if of_environment is not None:
        text = of_environment.sub(HIDDEN, text)
    text = _IN_URL.sub(rf"\g<1>{HIDDEN}", text)
    text = _FORMS.sub(HIDDEN, text)
    text = _BEARER.sub(rf"\g<1>{HIDDEN}", text)
    return _AFTER_NAME.sub(rf"\g<1>{HIDDEN}", text)


def redacted_words(words: Iterable[str]) -> tuple[str, ...]:
    """The words of a command line without the secrets in them; also of a word that follows a flag such as `--token`."""
    kept: list[str] = []
    for word in words:
        follows = bool(kept) and kept[-1].startswith("--") and "=" not in kept[-1] and _NAMED.search(kept[-1])
        kept.append(HIDDEN if follows else _WANDB_KEY.sub(HIDDEN, redacted(word)))
    return tuple(kept)


def redacted_content(content: Any) -> Any:
    """JSON content without the secrets in its texts; keys, numbers and the shape stay."""
    of_environment = _of_environment()

    def hidden(part: Any) -> Any:
        if isinstance(part, str):
            return _redacted(part, of_environment)
        if isinstance(part, Mapping):
            return {key: hidden(value) for key, value in part.items()}
        return [hidden(value) for value in part] if isinstance(part, list | tuple) else part

    return hidden(content)


def secrets_in(values: Mapping[str, Any]) -> list[str]:
    """The keys of a configuration whose values look like secrets: a run folder keeps every configuration as it is."""
    return [key for key, value in values.items() if isinstance(value, str) and _is_secret(key, value)]


class RedactingFormatter(logging.Formatter):
    """Formats records, tracebacks included, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, or the lines, of a record."""
        return redacted(super().format(record))


def _is_secret(key: str, value: str) -> bool:
    return redacted(value) != value or (bool(_NAMED.search(key)) and len(value) >= _SHORTEST)


def _of_environment() -> re.Pattern[str] | None:
    return _pattern(tuple(sorted({os.environ.get(name, "") for name in os.environ if _says_secret(name)})))


@lru_cache(maxsize=1024)
def _says_secret(name: str) -> bool:
    return bool(_NAMED.search(name))


@lru_cache(maxsize=8)
def _pattern(values: tuple[str, ...]) -> re.Pattern[str] | None:
    """Finds any of these values, the longest first; a place on disk is no secret, whatever its variable is called."""
    secret = [value for value in values if len(value.strip()) >= _SHORTEST and not os.path.exists(value)]
    if not secret:
        return None
    return re.compile("|".join(re.escape(value.strip()) for value in sorted(secret, key=len, reverse=True)))
