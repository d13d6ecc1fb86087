"""The plug-ins of a run as a whole: made once before anything starts, and their code among the run's inputs."""
