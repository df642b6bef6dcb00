"""What there is to be seen: bounds beside every score, and the probe study. No language model takes part.

encoders   frozen eyes, each image as tokens: the vision tower of a family, a vision encoder of transformers, pixels
pooling    tokens of any number -> one vector that a linear model can read
ridge      the linear reader, its regularisation chosen on the val split
questions  which questions have a finite set of answers, and which of these are possible
readings   from examples and encoders to answers: one row for each question, reader, training view and rung
marks      what a task says about resolution, by intervals
jobs       the two jobs: `bounds` of a study, `probe` of a probe study
"""
