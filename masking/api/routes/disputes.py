"""Disputes, their grants, and the chain of evidence."""

from masking import disputes as core_disputes
from masking.api import (
    case,
    disputes,
    sessions,
)
from masking.api.operations import Operation, Said
from masking.api.paging import Page, Paged

DISPUTES = [
    Operation(
        "POST",
        "/v1/disputes",
        "Open a dispute over an order: a time-boxed grant to hear the recordings of every session of that name.",
        disputes.open_dispute,
        {201: Said("The dispute and its grant.", core_disputes.Granted)},
        body=core_disputes.NewDispute,
        scopes=("disputes",),
        problems=("not_found", "contains_phone_number"),
        tag="disputes",
    ),
    Operation(
        "GET",
        "/v1/disputes",
        "List disputes, oldest first.",
        disputes.list_disputes,
        {200: Said("A page of disputes.", Page[core_disputes.Dispute])},
        query=Paged,
        scopes=("disputes",),
        tag="disputes",
    ),
    Operation(
        "GET",
        "/v1/disputes/{dispute}",
        "Get a dispute.",
        disputes.get_dispute,
        {200: Said("The dispute.", core_disputes.Dispute)},
        scopes=("disputes",),
        tag="disputes",
    ),
    Operation(
        "POST",
        "/v1/disputes/{dispute}:approve",
        "The second person's word, by another API key: the grant begins.",
        disputes.approve_dispute,
        {200: Said("The dispute and its grant.", core_disputes.Granted)},
        body=core_disputes.Approval,
        scopes=("disputes",),
        problems=("conflict", "contains_phone_number"),
        tag="disputes",
    ),
    Operation(
        "POST",
        "/v1/disputes/{dispute}:close",
        "End a dispute and its grant.",
        disputes.close_dispute,
        {200: Said("The dispute as it is now.", core_disputes.Dispute)},
        body=sessions.Nothing,
        body_required=False,
        scopes=("disputes",),
        tag="disputes",
    ),
    Operation(
        "GET",
        "/v1/disputes/{dispute}/export",
        "The case as one ZIP: sound, timeline, interactions, and a proof that `verify_case.py` in it checks offline.",
        case.export_case,
        {200: Said("The archive.", bytes, "application/zip")},
        scopes=("disputes",),
        problems=("grant_refused",),
        tag="disputes",
    ),
    Operation(
        "GET",
        "/v1/audit",
        "List who heard and decided what about recordings, in the order of the chain of evidence.",
        disputes.list_audit,
        {200: Said("A page of entries; `next` is null only on an empty one.", Page[disputes.AuditEntry])},
        query=Paged,
        scopes=("disputes",),
        tag="disputes",
    ),
    Operation(
        "GET",
        "/v1/audit:key",
        "The public key of the signed checkpoints.",
        disputes.evidence_key,
        {200: Said("The key.", disputes.EvidenceKey)},
        scopes=("disputes",),
        tag="disputes",
    ),
]
