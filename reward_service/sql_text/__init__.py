"""SQL as text: taken out of an answer, split into statements, compared as trees."""
