"""What the contract names and this version does not serve: refused by name, never accepted in silence."""

from masking import sessions as core_sessions
from masking.api.batches import SESSION_LATER
from masking.api.operations import Method, Operation

# Fields refused with 422 `not_implemented`.
CHANGE_LATER = SESSION_LATER | {*core_sessions.NewSession.__struct_fields__} - {
    *core_sessions.SessionChange.__struct_fields__
}
SERVICE_LATER = (CHANGE_LATER | {"out_of_session", "consent_policy"}) - {"participants", "service", "unique_name"}

TWILIO: tuple[Method, ...] = ("GET", "POST", "DELETE")

LATER = [
    # Its clients bring Basic credentials, so the answer comes before any key is asked for.
    *(
        Operation(method, path, "Twilio's Proxy face.", public=True, tag="twilio")
        for path in ("/v1/Services", "/v1/Services/{path}")
        for method in TWILIO
    ),
]
