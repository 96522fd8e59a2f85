"""The panel: compare pictures, see what was learned, generate with your taste, in the browser on this machine.

`studio` holds store, model and encoder for everybody; a `session` is one browser tab; `ahead` makes the next pair
while you look at this one; `sources` say where pictures come from. Only `app`, `server` and `theme` know Gradio.
"""
