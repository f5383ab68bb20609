"""Models and bundles: a `.skerry` file comes in, is verified, kept by digest, listed in the update repository, and
offered to rollouts.

Order of an upload: blobs durable -> row `draft` -> listed by TUF -> row `published`. A cut between two of them is
mended by uploading again or by `finish_drafts` at the next start; nothing is ever listed whose blobs are not on disk.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

from sqlalchemy import func
from sqlmodel import Session, col, select

from skerry_contracts import codec
from skerry_contracts.assignment import target_path
from skerry_contracts.bundle import Manifest
from skerry_contracts.container import Container, open_container
from skerry_contracts.errors import ContractError, MismatchError
from skerry_contracts.evidence import Evidence
from skerry_contracts.measuring import model_name
from skerry_fleet import audit
from skerry_fleet.audit import Actor
from skerry_fleet.blobs import Blobs
from skerry_fleet.conditional import UNSEEN, Seen
from skerry_fleet.config import Clock
from skerry_fleet.database import Database, announce
from skerry_fleet.errors import ConflictError, InputError, MissingError, UnavailableError
from skerry_fleet.paging import MAX_LETTER, Page, listing, narrowed
from skerry_fleet.tables import Bundle, BundleState, Desired, Model, Rollout
from skerry_fleet.trust.errors import TrustError
from skerry_fleet.trust.repository import Repository

T = TypeVar("T")


class Registry:
    """Models and bundles of one fleet: rows, blobs and the update repository together."""

    def __init__(self, database: Database, blobs: Blobs, repository: Repository, clock: Clock) -> None:
        self._database, self._blobs, self._repository, self._clock = database, blobs, repository, clock
        self.published: Callable[[str, str], None] = lambda tenant, bundle: None

    def register(self, actor: Actor, name: str, description: str = "", within: Session | None = None) -> dict[str, Any]:
        """Register a model, perhaps within a transaction: a row, and a role of its own in the update repository.

        Raises:
            InputError: a name that may not be one.
            ConflictError: registered already.
            UnavailableError: the repository refuses, for example because a key is kept offline.
        """
        try:
            model_name(name, "name")
        except MismatchError as error:
            raise InputError(str(error), hint=error.hint) from error
        now = self._clock()
        with contextlib.nullcontext(within) if within is not None else self._database.write() as session:
            if session.get(Model, (actor.tenant, name)) is not None:
                raise ConflictError(f"model {name} is registered already")
            # The role first: a role without a row harms nobody, and registering again finds it.
            _trusted(lambda: self._repository.register_model(name, now))
            row = Model(tenant=actor.tenant, name=name, description=description[:1000], created_ms=int(now * 1000))
            session.add(row)
            audit.write(session, actor, now, "model.register", f"model/{name}", None, {"description": row.description})
            return row.model_dump(exclude={"tenant"})

    def upload(self, actor: Actor, model: str, file: BinaryIO, *, publish: bool = True) -> dict[str, Any]:
        """Take in a bundle file of this model. The same file again changes nothing.

        Raises:
            InputError: the file is no whole bundle, or of another model.
            MissingError: the model is not registered.
            ConflictError: this version exists with other bytes, or the release does not rise.
        """
        try:
            container = open_container(file)
            if container.manifest.model != model:
                raise InputError(f"this bundle is of model {container.manifest.model}, not {model}")
            with self._database.read() as session:
                self._check(session, actor.tenant, container.manifest, container.bundle_id)
            for sha256, blob in container.manifest.blobs().items():
                if not self._blobs.has(sha256, blob.size_bytes):
                    self._blobs.put(sha256, container.stream_blob(sha256))
            container.verify()
            evidence = _evidence(container)
            self._blobs.put(container.bundle_id, [container.manifest_bytes])
        except ContractError as error:
            raise InputError(f"not a valid bundle: {error}", hint=error.hint, code="bad-bundle") from error
        with self._database.write() as session:
            row = self._keep(session, actor, container, evidence)
            if not publish or row.state != BundleState.DRAFT:
                return view(row)
        return self.publish(actor, container.bundle_id)

    def publish(self, actor: Actor, bundle: str, seen: Seen = UNSEEN) -> dict[str, Any]:
        """List a kept bundle in the update repository, so that devices may install it.

        Raises:
            MissingError: no such bundle.
            ConflictError: it was withdrawn, or is no longer as it was seen.
            UnavailableError: the repository refuses.
        """
        now = self._clock()
        with self._database.write() as session:
            row = get(session, actor.tenant, bundle)
            seen.still({"state": row.state})
            if row.state == BundleState.WITHDRAWN:
                raise ConflictError(f"bundle {bundle[:12]} was withdrawn", hint="compile a new release")
            if row.state == BundleState.PUBLISHED:
                return view(row)
            custom = {"version": row.version, "release": row.release, "target": row.target}
            path = target_path(row.model, row.id)
            _trusted(lambda: self._repository.publish(path, row.manifest.encode(), custom, now))
            shown = self._move(session, actor, now, row, BundleState.PUBLISHED)
        self.published(actor.tenant, row.id)
        return shown

    def withdraw(self, actor: Actor, bundle: str, seen: Seen = UNSEEN) -> dict[str, Any]:
        """Take a bundle off the list: nothing new may use it.

        Raises:
            MissingError: no such bundle.
            ConflictError: devices are to run it, a rollout works with it, or it is no longer as it was seen.
        """
        now = self._clock()
        with self._database.write() as session:
            row = get(session, actor.tenant, bundle)
            seen.still({"state": row.state})
            if row.state == BundleState.WITHDRAWN:
                return view(row)
            used = select(func.count()).where(
                Desired.tenant == actor.tenant, (col(Desired.bundle) == bundle) | (col(Desired.confirmed) == bundle)
            )
            rolling = select(func.count()).where(
                Rollout.tenant == actor.tenant, Rollout.bundle == bundle, col(Rollout.active).is_(True)
            )
            devices, rollouts = session.exec(used).one(), session.exec(rolling).one()
            if devices or rollouts:
                said = f"bundle {bundle[:12]} is in use by {devices} devices and {rollouts} rollouts"
                raise ConflictError(said, hint="roll out another bundle first")
            if row.state == BundleState.PUBLISHED:
                _trusted(lambda: self._repository.withdraw(target_path(row.model, row.id), now))
            return self._move(session, actor, now, row, BundleState.WITHDRAWN)

    def finish_drafts(self) -> int:
        """Publish what a cut left between its row and the update repository; return how many were found."""
        with self._database.read() as session:
            rows = session.exec(select(Bundle).where(Bundle.state == BundleState.DRAFT.value)).all()
            listed = self._repository.custom_of
            cut = [(row.tenant, row.id) for row in rows if listed(target_path(row.model, row.id)) is not None]
        for tenant, bundle in cut:
            self.publish(Actor(tenant, "system:start"), bundle)
        return len(cut)

    def _move(self, session: Session, actor: Actor, now: float, row: Bundle, state: BundleState) -> dict[str, Any]:
        before, row.state = row.state, state.value
        session.add(row)
        audit.write(session, actor, now, f"bundle.{state}", f"bundle/{row.id}", {"state": before}, {"state": state})
        announce(session, actor.tenant, "bundle", bundle=row.id, model=row.model, version=row.version, state=state)
        return view(row)

    def _check(self, session: Session, tenant: str, manifest: Manifest, bundle: str) -> None:
        """Refuse what may not come in, before anything is written."""
        if session.get(Model, (tenant, manifest.model)) is None:
            raise MissingError(f"no model {manifest.model!r:.80}", hint="`skerry fleet model register` makes it known")
        if session.get(Bundle, (tenant, bundle)) is not None:
            return
        rows = session.exec(select(Bundle).where(Bundle.tenant == tenant, Bundle.model == manifest.model)).all()
        for row in rows:
            if row.version != manifest.version:
                continue
            if row.target == manifest.target:
                raise ConflictError(
                    f"version {row.version} for {row.target} exists with other bytes", hint="give it a new version"
                )
            if row.release != manifest.release:
                raise ConflictError(f"version {row.version} is release {row.release}, not {manifest.release}")
        newest = max((row.release for row in rows if row.target == manifest.target), default=-1)
        if manifest.release <= newest:
            raise ConflictError(
                f"release {manifest.release} is not greater than {newest}, the newest for {manifest.target}",
                hint="compile with a greater --release: devices refuse to go back",
            )

    def _keep(self, session: Session, actor: Actor, container: Container, evidence: str | None) -> Bundle:
        manifest, bundle = container.manifest, container.bundle_id
        self._check(session, actor.tenant, manifest, bundle)  # again, now that nobody else can write
        known = session.get(Bundle, (actor.tenant, bundle))
        if known is not None:
            return known
        now = self._clock()
        row = Bundle(
            tenant=actor.tenant,
            id=bundle,
            model=manifest.model,
            version=manifest.version,
            release=manifest.release,
            target=manifest.target,
            size_bytes=len(container.manifest_bytes) + sum(blob.size_bytes for blob in manifest.blobs().values()),
            manifest=container.manifest_bytes.decode(),
            evidence=evidence,
            created_ms=int(now * 1000),
            created_by=actor.name,
        )
        session.add(row)
        after = {"model": row.model, "version": row.version, "release": row.release, "target": row.target}
        audit.write(session, actor, now, "bundle.upload", f"bundle/{row.id}", None, {**after, "state": row.state})
        return row


def get(session: Session, tenant: str, bundle: str) -> Bundle:
    """Return a bundle by its id or by a beginning of it that fits only one.

    Raises:
        MissingError: none fits, or several do.
    """
    row = session.get(Bundle, (tenant, bundle))
    if row is None and 6 <= len(bundle) < 64 and set(bundle) <= set("0123456789abcdef"):
        query = select(Bundle).where(Bundle.tenant == tenant, Bundle.id >= bundle, Bundle.id < bundle + "g")
        found = session.exec(query.limit(2)).all()
        row = found[0] if len(found) == 1 else None
    if row is None:
        raise MissingError(f"no bundle {bundle!r:.80}", hint="`skerry fleet bundle list --model M`; 6 characters do")
    return row


def show(session: Session, tenant: str, bundle: str) -> dict[str, Any]:
    """Return a bundle with its manifest and evidence.

    Raises:
        MissingError: no such bundle.
    """
    row = get(session, tenant, bundle)
    return {**view(row), "manifest": json.loads(row.manifest), "evidence": json.loads(row.evidence or "null")}


def list_models(session: Session, tenant: str, page: Page, q: str = "") -> dict[str, Any]:
    """Return one page of models (whose names begin with `q`), each with its number of bundles and newest release."""
    rows = session.exec(
        select(Model, func.count(col(Bundle.id)), func.max(Bundle.release))
        .join(Bundle, (col(Bundle.tenant) == col(Model.tenant)) & (col(Bundle.model) == col(Model.name)), isouter=True)
        .where(Model.tenant == tenant, Model.name > page.after, col(Model.name) >= q, col(Model.name) < q + MAX_LETTER)
        .group_by(col(Model.tenant), col(Model.name))
        .order_by(col(Model.name))
        .limit(page.limit + 1)
    ).all()

    def model_view(row: tuple[Model, int, int | None]) -> dict[str, Any]:
        return {**row[0].model_dump(exclude={"tenant"}), "bundles": row[1], "release": row[2]}

    return listing([(a, b, c) for a, b, c in rows], page, model_view, lambda row: row[0].name)


def list_bundles(session: Session, tenant: str, model: str, page: Page, target: str = "") -> dict[str, Any]:
    """Return one page of a model's bundles (for one target, where it is named), newest release first.

    Raises:
        MissingError: no such model.
        InputError: not a cursor.
    """
    if session.get(Model, (tenant, model)) is None:
        raise MissingError(f"no model {model!r:.80}", hint="`skerry fleet model register` makes it known")
    query = narrowed(select(Bundle).where(Bundle.tenant == tenant), Bundle, {"model": model, "target": target})
    if page.after:
        release, _, bundle = page.after.partition("-")
        if not (release.isascii() and release.isdigit()) or len(release) > 18 or len(bundle) != 64:
            raise InputError(f"after={page.after!r:.40} is no cursor of this list", hint="pass on `next` as it came")
        same = (col(Bundle.release) == int(release)) & (col(Bundle.id) > bundle)
        query = query.where((col(Bundle.release) < int(release)) | same)
    rows = session.exec(query.order_by(col(Bundle.release).desc(), col(Bundle.id)).limit(page.limit + 1)).all()
    return listing(rows, page, view, lambda row: f"{row.release}-{row.id}")


def view(row: Bundle) -> dict[str, Any]:
    """Return a bundle as lists show it."""
    return row.model_dump(exclude={"tenant", "manifest", "evidence"})


def _evidence(container: Container) -> str | None:
    raw = container.evidence
    if raw is None:
        return None
    if codec.decode(Evidence, raw).bundle != container.bundle_id:
        raise MismatchError("evidence.bundle", "speaks of another bundle")
    return codec.canonical_json(codec.parse_json(raw)).decode()


def _trusted(act: Callable[[], T]) -> T:
    """Do something with the update repository; what it refuses becomes ours to tell."""
    try:
        return act()
    except TrustError as error:
        raise UnavailableError(f"the update repository refuses: {error}", hint=error.hint) from error
    except OSError as error:
        said = f"the update repository cannot be written: {error.strerror}"
        raise UnavailableError(said, hint="free disk space") from error
