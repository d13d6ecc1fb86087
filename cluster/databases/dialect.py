"""The SQL dialect of golds and candidates, for everything that parses or writes SQL."""

DIALECT = "sqlite"  # as sqlglot names it
