"""Every call of the API, one row each; a path in braces names what stands there.

The service is built from this table (`app`) and so is its OpenAPI document (`openapi`). A row without a handler is a
call the contract names and this version does not serve: 501 `not_implemented`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from masking.api.routes.abuse import ABUSE
from masking.api.routes.disputes import DISPUTES
from masking.api.routes.history import HISTORY
from masking.api.routes.phone_numbers import PHONE_NUMBERS
from masking.api.routes.recordings import RECORDINGS
from masking.api.routes.services import SERVICES
from masking.api.routes.sessions import SESSIONS
from masking.api.routes.tools import TOOLS
from masking.api.routes.usage import USAGE
from masking.api.routes.webhooks import WEBHOOKS

if TYPE_CHECKING:
    from masking.api.operations import Operation

TABLE: tuple[Operation, ...] = (
    *SESSIONS,
    *SERVICES,
    *PHONE_NUMBERS,
    *HISTORY,
    *RECORDINGS,
    *ABUSE,
    *DISPUTES,
    *WEBHOOKS,
    *USAGE,
    *TOOLS,
)
