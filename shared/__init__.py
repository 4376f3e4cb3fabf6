"""Code shared by both programs: the wire format, the client, images, errors and files. Never imports torch.

schemas           the HTTP API as pydantic models
client            sends groups of candidate edits to a reward service; returns scores or typed failures
connections       API keys, proxies, httpx clients, and which HTTP failures are worth retrying
replicas          which replica a group is sent to
chat              OpenAI-style chat endpoints of any provider
images            image bytes <-> RGB images, with limits; the only place that names a codec
sources           references to images: files, or pictures embedded in a data set
golden            golden edits, of known quality, for testing judges
preferences       human preferences over edits, as read by `align` and `train-judge`
annotators        one label from several annotators
errors            the hierarchy of all our errors
config            YAML files and overrides -> a frozen model
fields            field types used by several models
files             atomic file writes
jsonl             JSON-lines files, with errors that name file, line and field
versions          versions of installed packages
library_warnings  silences warnings of other libraries that users cannot act on
"""
