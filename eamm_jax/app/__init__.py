"""The studio: a page in the browser that animates a portrait, through the same jobs as infer.py.

    form.py    what a visitor fills in, checked against limits -> a job
    studio.py  a model, and the jobs that are waiting and running
    fields.py  what the page's fields are called, and what they hold; ready-made forms
    panels.py  previews, progress, results and errors as HTML
    page.py    how it looks and reacts (Gradio)
    server.py  who can reach it

`eamm-studio` or `python -m eamm_jax.app` serves it. It needs the extra `app`.
"""
