"""The one error that a user can mend."""


class UserError(Exception):
    """One plain sentence that says what is wrong and what to do; the command ends with exit code 2."""


class ConfigError(UserError):
    """A configuration file or override that can not be used."""
