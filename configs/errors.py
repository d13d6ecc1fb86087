"""The errors that end a command with one sentence, on whatever process they arise."""


class UserError(Exception):
    """One plain sentence that says what is wrong and what to do; the command ends with exit code 2."""


class ConfigError(UserError):
    """A configuration file or override that can not be used."""


class AdapterProofError(UserError):
    """An engine does not hold the adapter that the learner exported: what was expected, and what was found."""
