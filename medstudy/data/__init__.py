"""Examples: an image with its questions, from a source to disk and back.

- `example`: the records; `encoded_image`: an image that is decoded on use; `readers/`: what data sets share to read one
- `arrow_store`: examples on disk; `table_export`: as images and a table; `gallery`: as a figure
- `splits`: held-out groups and caps; `leakage`, `perceptual_hash`: copies of images; `conflicts`: repeated questions
- `words`, `choices`: what an answer says; `standard_scores`: how right it is; `references`: references without a score
"""
