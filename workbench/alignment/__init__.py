"""`edit-r1 align`: preference data and a running service come in; how well the scores agree with people is reported.

cli        the command
readers    published preference data -> `PreferenceItem`s
scoring    asks the service for the scores that are missing
agreement  accuracy under three tie rules, intervals, tests; pure
results    the figures, by method, task and dimension; pure
report     HTML, JSON and terminal tables
"""
