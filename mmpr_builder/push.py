"""A build's folder onto the Hugging Face hub, as a data set that its viewer shows.

    README.md  run.json  pairs/*.parquet  drops/*.parquet  report/index.html     always
    rollouts/*.parquet                                                           when asked for

Parts of an earlier upload that this build does not have are removed in the same commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmpr_builder.errors import InputError, MmprError, SetupError
from mmpr_builder.io import stores
from mmpr_builder.output import pair_parts, read_run

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_PATTERNS = ("README.md", "run.json", "pairs/*.parquet", "drops/*.parquet", "report/index.html")
_ROLLOUTS = "rollouts/*.parquet"


class PushError(MmprError):
    """The hub refused or could not be reached; nothing of the commit is there."""


def uploads(out: str, *, rollouts: bool = False) -> dict[str, int]:
    """What would go: path in the folder -> size in bytes, sorted by path.

    Raises `InputError` when `out` holds no finished build or is not a folder of this machine.
    """
    fs, root = stores.resolve(out)
    if not stores.is_local(fs):
        raise InputError(f"{out}: push sends a folder of this machine: copy the build here first")
    read_run(out)
    pair_parts(out)
    found = [path for pattern in _patterns(rollouts) for path in fs.glob(f"{root}/{pattern}")]
    return {path[len(root) :].lstrip("/"): fs.size(path) for path in sorted(found)}


def push(
    out: str,
    repo_id: str,
    *,
    private: bool = False,
    rollouts: bool = False,
    revision: str | None = None,
    message: str | None = None,
    api: HfApi | None = None,
) -> str:
    """Upload a build as the data set `repo_id`, made if it is not there; returns its commit's URL.

    Token and endpoint are those of `huggingface_hub` (`hf auth login`, HF_TOKEN, HF_ENDPOINT).
    Raises `SetupError` where nothing can be sent from here, `PushError` when the hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    # The HTTP client of the hub's library has changed before; its errors derive from the client's.
    client = (c for c in HfHubHTTPError.__mro__ if c.__name__ == "HTTPError")
    unreachable: tuple[type[Exception], ...] = (OfflineModeIsEnabled, *client)
    files = uploads(out, rollouts=rollouts)
    if api is None:
        _check_access()
        api = HfApi(library_name="mmpr_builder")
    try:
        api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
        done: Any = api.upload_folder(
            repo_id=repo_id,
            repo_type="dataset",
            folder_path=stores.resolve(out)[1],
            allow_patterns=list(_patterns(rollouts)),
            delete_patterns=[p for p in _patterns(rollouts) if "*" in p],
            revision=revision,
            commit_message=message or f"mmpr_builder: {len(files)} files",
        )
    except HFValidationError as error:
        raise InputError(f"{repo_id!r}: {error}: give it as NAME/DATASET") from None
    except LocalTokenNotFoundError as error:
        raise SetupError(f"no token for the hub ({error}): run `hf auth login`") from None
    except HfHubHTTPError as error:
        raise PushError(f"{api.endpoint} refused {repo_id}: {_why(error)}") from None
    except unreachable as error:
        raise PushError(
            f"the hub at {api.endpoint} cannot be reached ({error}): check the network or"
            " HF_ENDPOINT"
        ) from None
    return str(done.commit_url)


def _patterns(rollouts: bool) -> tuple[str, ...]:
    return (*_PATTERNS, _ROLLOUTS) if rollouts else _PATTERNS


def _check_access() -> None:
    from huggingface_hub import constants, get_token

    if constants.is_offline_mode():
        raise SetupError("HF_HUB_OFFLINE is set, so nothing can be sent: unset it, or --dry-run")
    if get_token() is None:
        raise SetupError(
            "no token for the hub: run `hf auth login` or set HF_TOKEN to a token that may write"
        )


def _why(error: Any) -> str:
    said = " ".join(str(error).split())
    denied = getattr(error.response, "status_code", None) in (401, 403)
    return said + ": use a token that may write there (`hf auth login`, HF_TOKEN)" * denied
