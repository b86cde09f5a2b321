# The group's server: Airflow with Beamferry (target `server`), and the hosts of the lab (target `lab`).
#
# The base is Airflow's official image, or a bare Python on Debian: what of constraints.txt is missing there is
# installed, what is there stays. pip's own settings, where a machine needs them, come as the secret `pip` (a pip.conf).
ARG BASE_IMAGE=apache/airflow:3.3.2-python3.12
FROM ${BASE_IMAGE} AS server

USER root
# The official image has this account and these folders.
RUN id airflow >/dev/null 2>&1 || useradd --uid 50000 --gid 0 --create-home airflow; \
    mkdir -p /opt/airflow/dags /opt/airflow/logs \
    && chown airflow:0 /opt/airflow /opt/airflow/* && chmod 0775 /opt/airflow /opt/airflow/* \
    && chmod 0755 /home/airflow
# Where the volume of secrets and the registry's folder are put.
RUN install -d -o airflow -g 0 -m 0700 /run/beamferry && install -d /opt/beamferry/registry

USER airflow
WORKDIR /opt/airflow
ENV AIRFLOW_HOME=/opt/airflow \
    PATH=/home/airflow/.local/bin:$PATH \
    PYTHONUSERBASE=/home/airflow/.local \
    PIP_CONFIG_FILE=/run/secrets/pip \
    PIP_DISABLE_PIP_VERSION_CHECK=1
COPY constraints.txt pyproject.toml deploy/missing.py /opt/beamferry/
RUN --mount=type=secret,id=pip,uid=50000 --mount=type=cache,target=/home/airflow/.cache,uid=50000 \
    python /opt/beamferry/missing.py /tmp/missing deploy \
    && python -m pip install --no-input -c /tmp/missing/constraints.txt -r /tmp/missing/requirements.txt \
    && rm -r /tmp/missing

COPY README.md /opt/beamferry/
COPY include/beamferry /opt/beamferry/include/beamferry
COPY include/beamferry_agent /opt/beamferry/include/beamferry_agent
RUN --mount=type=secret,id=pip,uid=50000 --mount=type=cache,target=/home/airflow/.cache,uid=50000 \
    cp -r /opt/beamferry /tmp/beamferry && python -m pip install --no-input --no-deps /tmp/beamferry \
    && rm -r /tmp/beamferry
COPY deploy /opt/beamferry/deploy

ENV AIRFLOW__CORE__DAGS_FOLDER=/opt/airflow/dags \
    BEAMFERRY_REGISTRY=/run/beamferry/beamtimes.yaml
ENTRYPOINT ["/opt/beamferry/deploy/component"]
CMD ["airflow", "version"]

FROM server AS lab
USER root
# At Diamond and on RDS-SSH the account is mbcx9cd4, at DESY cdaniel: two names for one number, as all files are the lab's.
# DESY's SFTP shows an account its beamtimes at the top; a server that is not root cannot change its root, so they lie there.
RUN command -v sshd rsync lftp openssl ssh-keygen ps >/dev/null || { apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    openssh-server openssh-client rsync lftp openssl procps && rm -rf /var/lib/apt/lists/*; }
RUN mkdir -p /lab/rds /lab/diamond /lab/desy /mnt/eps01-rds/Fonseca-Lightform \
    && useradd --uid 1001 --gid 0 --no-create-home --home-dir /home/mbcx9cd4 --shell /bin/bash mbcx9cd4 \
    && useradd --uid 1001 --non-unique --gid 0 --no-create-home --home-dir /home/cdaniel --shell /bin/bash cdaniel \
    && ln -s /lab/home /home/mbcx9cd4 && ln -s /lab/home /home/cdaniel \
    && ln -s /lab/dls /dls && ln -s /lab/beamtimes /beamtimes && ln -s /lab/beamtimes/11010750 /11010750 \
    && chown -R 1001:0 /lab /mnt/eps01-rds && chmod -R 0700 /lab
USER airflow
RUN --mount=type=secret,id=pip,uid=50000 --mount=type=cache,target=/home/airflow/.cache,uid=50000 \
    python /opt/beamferry/missing.py /tmp/missing lab \
    && python -m pip install --no-input -c /tmp/missing/constraints.txt -r /tmp/missing/requirements.txt \
    && rm -r /tmp/missing
USER 1001:0
WORKDIR /
ENTRYPOINT ["python", "-m", "beamferry.lab.container"]

# What a build without a target makes.
FROM server
