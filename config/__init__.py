"""The Django project: settings, URLs, the API and its entry points."""
