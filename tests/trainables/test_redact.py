"""Secrets are hidden in whatever is kept or printed, and nothing else is."""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

import pytest

from sweep.compiled import plan_space
from sweep.config import SweepConfig, from_command_line
from sweep.journal import Journal, read_events
from trainables import commands
from trainables.config import parse_value
from trainables.errors import ConfigError, DataError, UsageError
from trainables.redact import RedactingFormatter, redacted, redacted_content, redacted_words, secrets_in

SECRETS = {
    "password in a URL": ("ray://{}@head:10001", "me:hunter@2"),
    "name in a URL": ("https://{}@github.com/x.git, see a@b.org", "abcdef"),
    "URL that became a path": ("data root /a/https:/{}@host/x", "u:p"),
    "OpenAI": ("with {} as key", "sk-proj-" + "aB3_" * 6),
    "GitHub": ("{}", "ghp_" + "a1B2" * 9),
    "Hugging Face": ("token {}.", "hf_" + "aB3d" * 8),
    "AWS": ("{}", "AKIA" + "ABCD1234" * 2),
    "JSON Web Token": ("{}", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl"),
    "header": ("Authorization: Bearer {}", "abc.def-123"),
    "after its name": ("--set loss.api_key={}", "0123456789"),
    "in JSON": ('{{"password": "{}"}}', "correct-horse"),
    "in a query": ("https://x.org/a?access_token={}&b=1", "0123456789"),
}


@pytest.mark.parametrize("kind", SECRETS)
def test_secret_is_hidden_and_the_rest_of_the_text_stays(kind: str) -> None:
    form, secret = SECRETS[kind]
    assert redacted(form.format(secret)) == form.format("***")
    assert redacted(redacted(form.format(secret))) == form.format("***")


@pytest.mark.parametrize(
    "text",
    [
        "photometric is better: +0.023 [+0.007, +0.040]",
        "https://github.com/owner/name.git and mail@example.org",
        "http://127.0.0.1:8265; its token: ray get-auth-token prints it",
        "augment.policy=flip model.class_token=true tokens=12345678",
        "checkpoints/0000/epoch-0001, sha256 " + "0123456789abcdef" * 4,
        "commit 0123456789abcdef0123456789abcdef01234567",
        "skip-connections-and-decoders-of-any-kind, risk-of-something-that-is-long",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_values_of_the_environment_are_hidden_by_the_names_of_their_variables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        "OTHER_TOKEN": "plain words", "X_API_KEY": "another value", "DB_PASSWORD": "plain words, and more",
        "SHORT_TOKEN": "short", "A_FOLDER_TOKEN": str(tmp_path), "TOKENS_OF_MINE": "not a secret",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    told = redacted(f"plain words, and more; plain words; another value; short; {tmp_path}; not a secret")
    assert told == f"***; ***; ***; short; {tmp_path}; not a secret"


def test_words_of_a_command_line() -> None:
    key = "0123456789abcdef0123456789abcdef01234567"
    words = ["run", "--wandb-api-key", key, "--note", key, "--token", "abc", "--name", "x", "--address=ray://a:b@c"]
    hidden = [
        "run",
        "--wandb-api-key",
        "***",
        "--note",
        "***",
        "--token",
        "***",
        "--name",
        "x",
        "--address=ray://***@c",
    ]
    assert list(redacted_words(words)) == hidden
    assert commands.command("sweep.run", "--address", "ray://a:b@c").endswith("--address 'ray://***@c'")


def test_errors_journal_and_logs_hold_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = "only-the-environment-knows"
    monkeypatch.setenv("SOME_TOKEN", secret)
    assert str(DataError(f"no login with {secret}: ask")) == "no login with ***: ask"
    with Journal(tmp_path / "journal.jsonl") as journal:
        event = journal.append(
            "ended", trial_id="t000", reason=f"refused {secret}", numbers=[1, None, 0.5, {"a": secret}]
        )
    assert (event["reason"], event["numbers"]) == ("refused ***", [1, None, 0.5, {"a": "***"}])
    assert secret not in (tmp_path / "journal.jsonl").read_text() and read_events(tmp_path / "journal.jsonl") == [event]
    try:
        raise ValueError(secret)
    except ValueError:
        record = logging.LogRecord("a", 40, "f", 1, "failed %s", (secret,), sys.exc_info())
    line = RedactingFormatter().format(record)
    assert secret not in line and "failed ***" in line and "ValueError: ***" in line


def test_names_in_errors_cannot_write_on_the_terminal() -> None:
    told = str(DataError("a\x1b[2Jb\r\u202egnp.exe\tc\nd \x9b é 漢"))
    assert told == "a\\x1b[2Jb\\r\\u202egnp.exe\tc\nd \\x9b é 漢"


def test_long_texts_take_time_in_proportion() -> None:
    began = time.process_time()
    for part in ("a", "a.", "http:", "token", "x:/", "@a:/", "eyJ", "bearer ", "-----BEGIN PRIVATE KEY-----"):
        assert redacted(part * (20_000 // len(part)) + "!").endswith("!") or part.startswith("-")
    assert time.process_time() - began < 3


def test_content_keeps_its_shape() -> None:
    content = {"a": ["x", ("ray://u:p@h", 1)], "b": {"c": None}, "d": True}
    assert redacted_content(content) == {"a": ["x", ["ray://***@h", 1]], "b": {"c": None}, "d": True}
    assert json.dumps(redacted_content([1.5, "x"])) == '[1.5, "x"]'


def test_configuration_with_a_secret_is_refused_without_telling_it() -> None:
    values = {"loss.api_key": "0123456789", "loss.name": "hf_" + "aB3d" * 8, "optimizer.lr": 0.1, "model.token": "mean"}
    assert secrets_in(values) == ["loss.api_key", "loss.name"]
    with pytest.raises(ConfigError, match="environment variable") as caught:
        parse_value("loss.name", values["loss.name"])
    assert "hf_" not in str(caught.value)


def test_space_and_project_with_a_secret_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="WANDB_API_KEY") as caught:
        from_command_line(["--wandb-project", "hf_" + "aB3d" * 8])
    assert "hf_" not in str(caught.value)
    config = from_command_line(["--space", "augment"])
    assert isinstance(config, SweepConfig)
    plan_space(config, (96, 128))
    monkeypatch.setenv("MY_TOKEN", "photometric")
    with pytest.raises(ConfigError, match=r"^augment\.policy: the value looks like a key"):
        plan_space(config, (96, 128))
