# The trainer.
#   CPU:  docker build -f docker/trainer.Dockerfile -t edit-r1-trainer .
#   GPU:  docker build -f docker/trainer.Dockerfile --build-arg TORCH_BACKEND= -t edit-r1-trainer:cuda .   (torch includes CUDA)
ARG BASE=python:3.11-slim
# An image or build context with wheels to use before any index.
ARG WHEELS_IMAGE=scratch

FROM ${WHEELS_IMAGE} AS wheels

FROM ${BASE} AS build
# The torch build: `cpu` is small and comes from PyTorch's own index; empty uses the default index, with CUDA.
ARG TORCH_BACKEND=cpu
# Others: `trackers` for Weights & Biases and Trackio, `quant` for an int8 base model.
ARG EXTRAS="--extra trainer"
WORKDIR /src
# Compile at build time: the container's user cannot write bytecode.
ENV UV_COMPILE_BYTECODE=1
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir --quiet uv==0.13.9
COPY pyproject.toml constraints.txt ./
# Install dependencies first: this layer rarely changes.
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
# Configurations refer to files by their path in the repository.
WORKDIR /app
COPY worlds worlds
COPY examples examples
VOLUME ["/models", "/runs"]
USER 10001
ENTRYPOINT ["edit-r1"]
CMD ["--help"]
