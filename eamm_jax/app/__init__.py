"""The studio: a page in the browser that animates a portrait, through the same jobs as infer.py.

    limits.py    what is taken on at once, and for how long it is kept
    form.py      what a visitor fills in -> a job
    studio.py    a model, and the jobs that are waiting and running
    examples.py  ready-made forms
    fields.py    what the page's fields are called, and what they hold
    panels.py    previews, progress, results and errors as HTML
    page.py      how it looks and reacts (Gradio)
    server.py    who can reach it

`eamm-studio` or `python -m eamm_jax.app` serves it. It needs the extra `app`.
"""
