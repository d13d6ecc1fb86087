"""Sets of questions: read, split, held back, selected and drawn for the steps of a run."""
