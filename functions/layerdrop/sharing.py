"""Who may use a layer version besides its own account."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Grant:
    """A statement of a layer version's policy; the same grantee always has the same statement id."""

    statement_id: str
    principal: str
    organization_id: str | None


def grant(grantee: str) -> Grant:
    """The grant for an account's 12 digits, or for an organization's id: everyone, but only from there."""
    if grantee.startswith("o-"):
        return Grant(f"organization-{grantee}", "*", grantee)
    return Grant(f"account-{grantee}", grantee, None)


def is_ours(statement_id: str) -> bool:
    """Whether a statement is a grant that `grant` made, none that somebody added by hand."""
    return statement_id.startswith(("account-", "organization-"))
