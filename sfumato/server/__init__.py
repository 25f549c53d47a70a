"""``sfumato serve``: the page, live sessions, portraits and videos over HTTP (docs/server.md)."""
