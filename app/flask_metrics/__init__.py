"""The Flask service that Vigie observes: four request metrics, JSON logs, optional spans and a real crash."""
