"""The example of a design that is recorded: docs/evidence.md."""
