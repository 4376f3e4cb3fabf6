"""`edit-r1 align`: measures how well the scores of a running service agree with human preference data.

cli        the command
readers    published preference data -> `PreferenceItem`s
scoring    requests missing scores from the service
agreement  accuracy under three tie rules, intervals, tests; pure
results    the figures, by method, task and dimension; pure
report     HTML, JSON and terminal tables
"""
