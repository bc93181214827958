"""Sphinx extension: leave out Thebe, which Jupyter Book always adds and which would fetch its script from a CDN.

Pages of this book run no code, so nothing is lost, and no page names an address that it might load from.
"""


def setup(app):
    app.connect("config-inited", remove_thebe)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def remove_thebe(app, config):
    for event, listeners in app.events.listeners.items():
        kept = [listener for listener in listeners if not listener.handler.__module__.startswith("sphinx_thebe")]
        app.events.listeners[event] = kept
    app.registry.css_files[:] = [(name, values) for name, values in app.registry.css_files if "thebe" not in name]
