"""The command line: one file per verb, loaded only when it is called."""

from importlib import import_module

import click

# verb: what it does, in a line. The verb's file is cli/<verb>.py and its command is called `command`.
VERBS = {
    "audit": "Audit a synthetic set against the real clips: videos or latents in, one report out.",
    "bench": "Measure speed against the peers, or run the calibration study.",
    "check": "List every problem of a data set, with file names and remedies.",
    "compare": "Show audits side by side: whether they can be compared, what changed, and how surely.",
    "demo": "Everything, on a phantom cohort with known truth.",
    "downstream": "Measure what a synthetic set is worth to train an EF regressor on, and why.",
    "encode": "Turn clips into a latent store.",
    "phantom": "Write a beating-heart ultrasound cohort with known truth.",
    "release": "Choose, export and verify a synthetic set that may leave the house.",
    "report": "Write the report of a finished audit again, redacted, or as figures for a paper.",
    "reproduce": "The paper's tables and figures, on EchoNet folders or on phantom cohorts.",
    "sample": "Sample images or videos from the generators.",
    "train": "Train a VAE, a re-identification model, a generator of images or videos, or an EF regressor.",
    "withdraw": "List the synthetic clips that must go when a patient withdraws.",
}


class _Verbs(click.Group):
    """A group that knows its verbs' names and summaries without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = import_module(f"mnemoscope.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mnemoscope")
def main() -> None:
    """Shows what a generative model of medical video remembers.

    \b
    Example: mnemoscope audit --real CLIPS --synthetic GENERATED --out runs/first
    """
