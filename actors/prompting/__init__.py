"""The prompt of a question: the schema's text, descriptions, values, and what is trimmed where it is too long."""
