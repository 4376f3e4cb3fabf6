"""One request, from decoded images to a score: takes a group and returns a score or a typed error per candidate.

scorer         the steps of a request, in order
principles     the principles that verifiers check
measuring      runs measures, which ask the judge nothing
self_ensemble  the answers behind one score: asking, retrying, averaging
group_scores   the scores of a group by a method that compares its candidates
prompt         the questions about an edit, as the judge reads them
answering      one answer, past the judge's thoughts and up to its score
selftest       checks made before the service is ready
"""
