"""Where Ray's dashboard is, and who can reach this Ray."""

from __future__ import annotations

from rich.console import Console


def show_ray(console: Console, *, url: str | None, protected: bool, token: str, local: bool = True) -> None:
    """Says where the Ray dashboard is, what can be reached over the network, and, in red, if anybody may use this Ray.

    Args:
        console: Where to.
        url: Of the dashboard, or None.
        protected: Whether Ray asks for its token.
        token: Where that is.
        local: Whether it was started here, for this sweep.
    """
    if not protected:
        console.print(
            "[bold red]Ray's token authentication is off[/bold red]: anybody who reaches this Ray over the network can "
            "run code on its machines. Unset RAY_AUTH_MODE, or see Ray's documentation of token authentication.",
            soft_wrap=True,
        )
    if url and protected:
        told = f"Ray dashboard: {url}  (it asks for a token: {token})"
        console.print(told, soft_wrap=True)
    elif url:
        console.print(f"Ray dashboard: {url}  [red](open to anybody)[/red]", soft_wrap=True)
    if local and protected:
        console.print(
            "other machines on your network reach Ray's own ports: they ask for the token too, and only Ray's metrics "
            "can be read without it (docs/security.md)",
            style="dim",
            soft_wrap=not console.is_terminal,
        )
