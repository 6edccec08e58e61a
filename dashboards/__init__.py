"""Vigie's Grafana dashboards as code; ``python -m dashboards`` writes the JSON that the role ``dashboards`` ships.

Dashboards say themselves which of their panels may be empty, in words that people read and the module ``dashboard_check``
understands, as whole sentences of a panel's description (or of the dashboard's, for all of its panels):

- ``Empty while <condition>.`` - the metrics are there, but the query may find nothing among them.
- ``Empty until <event>.`` - even the metrics may not be there yet.
- ``Only on kubernetes.`` (or ``process``) - the metrics exist on that kind of platform only.
"""
