# docker build --tag scenelab . && docker run --rm --interactive --tty --volume "$PWD":/work scenelab demo
# Students' code is graded with --unsafe inside this container, or with --privileged in bubblewrap.
FROM python:3.12-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends bubblewrap libseccomp2 libpango-1.0-0 libpangoft2-1.0-0 git \
 && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv
COPY pyproject.toml README.md LICENSE /scenelab/
COPY src /scenelab/src
RUN uv pip install --system --no-cache --torch-backend cpu "/scenelab[all]"
WORKDIR /work
ENTRYPOINT ["scenelab"]
CMD ["--help"]
