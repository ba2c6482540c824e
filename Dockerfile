# An image in which segsweep is installed for a user who is not root. docs/containers.md says how to build and run it.
#
# torch's wheels bring CUDA, so that the default base runs on CPUs and, with --gpus all, on GPUs. On a base that has torch
# already (BASE=pytorch/pytorch:...) that torch is used: give CONSTRAINTS=/dev/null then.
ARG BASE=python:3.11-slim
FROM ${BASE}

ARG CONSTRAINTS=constraints.txt
ARG EXTRAS=lite,smp,coco,export
ARG UID=1000

# make and git for the development container; procps for ps; tini ends what a sweep leaves behind.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make procps tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --non-unique --uid "${UID}" --shell /bin/bash user \
    && mkdir /work /cache \
    && chown user /work /cache

USER user
WORKDIR /home/user/segsweep
COPY --chown=user pyproject.toml constraints.txt README.md LICENSE segsweep.py ./
COPY --chown=user trainables trainables
COPY --chown=user search_spaces search_spaces
COPY --chown=user sweep sweep
COPY --chown=user analysis analysis
RUN python3 -m venv --system-site-packages /home/user/venv \
    && /home/user/venv/bin/python -m pip install --no-cache-dir --constraint "${CONSTRAINTS}" ".[${EXTRAS}]"

ENV PATH=/home/user/venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    SEGSWEEP_CACHE=/cache

WORKDIR /work
ENTRYPOINT ["tini", "--", "segsweep"]
CMD ["--help"]
