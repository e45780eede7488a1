from mnemoscope.audit.run.results import audit_schema, made_schema


def test_the_schema_that_ships_follows_from_the_types() -> None:
    """After a change of the result's types: ``mnemoscope.audit.run.results.ship_schema()``."""
    assert audit_schema() == made_schema()


def test_every_object_of_the_schema_is_closed_and_whole() -> None:
    schema = audit_schema()
    for part in (schema, *schema["$defs"].values()):
        assert part["additionalProperties"] is False
        assert part["required"] == list(part["properties"])
