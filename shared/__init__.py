"""What the two programs must agree on: the wire format, the client, images, errors and files. Never imports torch.

schemas           the HTTP API as pydantic models
client            sends groups of candidate edits to a reward service; returns scores or typed failures
replicas          which replica a group is sent to
http_failures     which HTTP failures are worth retrying, and when
images            image bytes <-> RGB images, with limits; the only place that names a codec
golden_edits      edits of known quality: does a judge order them correctly?
preferences       human preferences over edits, as read by `align` and `train-judge`
annotators        one label from several annotators
errors            the tree of all our errors
config            YAML files and overrides -> a frozen model
fields            field types that several models use
files             files that are written whole or not at all
jsonl             JSON-lines files, with errors that name file, line and field
library_warnings  silences warnings of other libraries that users cannot act on
"""
