"""A service's virtual numbers."""

from masking.api import (
    phone_numbers,
)
from masking.api.operations import Operation, Said
from masking.api.paging import Page, Paged

PHONE_NUMBERS = [
    Operation(
        "POST",
        "/v1/services/{service}/phone_numbers",
        "Add virtual numbers, all or nothing; one that is already in this service is no error.",
        phone_numbers.add_phone_numbers,
        {
            201: Said("The numbers, as asked for.", phone_numbers.PhoneNumbers),
            200: Said("With `dry_run`: what would be added.", phone_numbers.CheckedPhoneNumbers),
        },
        body=phone_numbers.NewPhoneNumbers,
        scopes=("numbers",),
        problems=("phone_number_taken", "quota_exceeded", "invalid_phone_number", "unknown_trunk"),
        tag="phone_numbers",
    ),
    Operation(
        "GET",
        "/v1/services/{service}/phone_numbers",
        "List the virtual numbers of a service.",
        phone_numbers.list_phone_numbers,
        {200: Said("A page of numbers.", Page[phone_numbers.PhoneNumber])},
        query=Paged,
        scopes=("numbers",),
        tag="phone_numbers",
    ),
    Operation(
        "PATCH",
        "/v1/services/{service}/phone_numbers",
        "Change the state of many virtual numbers and blocks of them; one that is not in the service changes none.",
        phone_numbers.change_phone_numbers,
        {200: Said("The numbers as they are now.", phone_numbers.ChangedPhoneNumbers)},
        body=phone_numbers.PhoneNumbersChange,
        scopes=("numbers",),
        problems=("invalid_phone_number", "quota_exceeded", "conflict"),
        tag="phone_numbers",
    ),
    Operation(
        "GET",
        "/v1/services/{service}/phone_numbers/{number}",
        "Get a virtual number by its id, or as itself in E.164.",
        phone_numbers.get_phone_number,
        {200: Said("The number.", phone_numbers.PhoneNumber)},
        scopes=("numbers",),
        tag="phone_numbers",
    ),
    Operation(
        "PATCH",
        "/v1/services/{service}/phone_numbers/{number}",
        "Change the state of a virtual number.",
        phone_numbers.change_phone_number,
        {200: Said("The number as it is now.", phone_numbers.PhoneNumber)},
        body=phone_numbers.PhoneNumberChange,
        scopes=("numbers",),
        problems=("quota_exceeded", "conflict"),
        tag="phone_numbers",
    ),
]
