"""What the contract names and this version does not serve: refused by name, never accepted in silence."""

from masking import sessions as core_sessions

# Fields refused with 422 `not_implemented`.
CHANGE_LATER = frozenset(core_sessions.NewSession.__struct_fields__) - {*core_sessions.SessionChange.__struct_fields__}
SERVICE_LATER = (CHANGE_LATER | {"out_of_session"}) - {"participants", "service", "unique_name"}
