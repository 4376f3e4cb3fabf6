"""One request, from decoded images to a score. Groups come in, scores or typed errors per candidate go out.

scorer         the steps of a request, in order
principles     the principles that verifiers check
self_ensemble  the answers behind one score: asking, retrying, averaging
selftest       what must hold before the service is ready
"""
