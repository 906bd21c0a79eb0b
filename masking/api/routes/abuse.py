"""Blocks, and what one participant says about another."""

from masking import barring as core_barring
from masking import reports as core_reports
from masking.api import (
    blocks,
    reports,
    sessions,
)
from masking.api.operations import Operation, Said
from masking.api.paging import Page, Paged

ABUSE = [
    Operation(
        "POST",
        "/v1/blocks",
        "Block a pair, a person within a service, or a person's number everywhere; in force within a second.",
        blocks.create_block,
        {201: Said("The block.", core_barring.Block)},
        body=core_barring.NewBlock,
        scopes=("sessions",),
        problems=("not_found", "invalid_phone_number", "contains_phone_number"),
        tag="blocks",
    ),
    Operation(
        "GET",
        "/v1/blocks",
        "List the blocks, oldest first.",
        blocks.list_blocks,
        {200: Said("A page of blocks.", Page[core_barring.Block])},
        query=Paged,
        scopes=("sessions",),
        tag="blocks",
    ),
    Operation(
        "DELETE",
        "/v1/blocks/{block}",
        "Take a block back.",
        blocks.remove_block,
        {204: Said("It is gone.")},
        body=sessions.Nothing,
        body_required=False,
        scopes=("sessions",),
        tag="blocks",
    ),
    Operation(
        "POST",
        "/v1/reports",
        "Report a participant for another: the pair is blocked, the recordings of their calls are held.",
        reports.report,
        {201: Said("The report.", core_reports.Report)},
        body=core_reports.NewReport,
        scopes=("sessions",),
        problems=("not_found", "contains_phone_number"),
        tag="blocks",
    ),
]
