"""Code shared by both programs: the wire format, the client, images, errors and files. Never imports torch.

schemas           the HTTP API as pydantic models
client            sends groups of candidate edits to a reward service; returns scores or typed failures
connections       API keys, proxies of the environment, and the httpx clients that follow both
replicas          which replica a group is sent to
http_failures     which HTTP failures are worth retrying, and when
chat              OpenAI-style chat endpoints of any provider
images            image bytes <-> RGB images, with limits; the only place that names a codec
sources           references to images: files, or pictures embedded in a data set
golden_edits      edits of known quality: does a judge order them correctly?
golden_scenes     golden edits made by code, for judges that bring none
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
