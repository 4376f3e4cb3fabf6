# The trainer.
#   CPU:  docker build -f docker/trainer.Dockerfile -t edit-r1-trainer .
#   GPU:  docker build -f docker/trainer.Dockerfile --build-arg TORCH_BACKEND= -t edit-r1-trainer:cuda .   (torch brings CUDA)
ARG BASE=python:3.11-slim
# An image, or a build context, of wheels to take before any index is asked.
ARG WHEELS_IMAGE=scratch

FROM ${WHEELS_IMAGE} AS wheels

FROM ${BASE} AS build
# Which build of torch: cpu is small and from PyTorch's own index; empty is what the default index has, CUDA.
ARG TORCH_BACKEND=cpu
# Also `trackers` for Weights & Biases and Trackio, `quant` for an int8 base.
ARG EXTRAS="--extra trainer"
WORKDIR /src
# Compiled here: the container runs as a user who may not write what it compiles.
ENV UV_COMPILE_BYTECODE=1
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --quiet uv==0.13.9
COPY pyproject.toml constraints.txt ./
# Dependencies first: they are the layer that seldom changes.
RUN --mount=type=bind,from=wheels,target=/wheels \
    /opt/uv/bin/uv venv --python python3 /opt/venv \
    && /opt/uv/bin/uv pip install --python /opt/venv/bin/python --no-cache --find-links /wheels \
       --constraint constraints.txt ${TORCH_BACKEND:+--torch-backend ${TORCH_BACKEND}} \
       --requirements pyproject.toml ${EXTRAS}
COPY README.md LICENSE ./
COPY edit_r1 edit_r1
COPY shared shared
COPY reward_service reward_service
COPY trainer trainer
COPY workbench workbench
COPY worlds worlds
RUN /opt/uv/bin/uv pip install --python /opt/venv/bin/python --no-cache --no-deps .

FROM ${BASE} AS final
COPY --from=build /opt/venv /opt/venv
RUN useradd --uid 10001 --create-home app && mkdir -p /models /runs /data && chown app /models /runs /data
ENV PATH=/opt/venv/bin:$PATH HF_HOME=/models PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=passive
# Configurations name files of the repository by their path in it.
WORKDIR /app
COPY worlds worlds
COPY examples examples
VOLUME ["/models", "/runs"]
USER 10001
ENTRYPOINT ["edit-r1"]
CMD ["--help"]
