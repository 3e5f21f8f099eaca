"""What the stand-in for the server of Weights & Biases holds, and how it answers.

History is kept by line, as the server does: a request says at which line its rows begin, and what was there is replaced.
An operation that it does not know it refuses, and notes in ``unknown``.
"""

import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

ENTITY = "somebody"
Json = dict[str, Any]


@dataclass
class SentRun:
    """A run as the server has it."""

    entity: str
    project: str
    id: str
    about: Json = field(default_factory=dict)
    """Variables of the mutations that made and changed it: groupName, jobType, displayName, tags, ..."""
    lines: list[Json] = field(default_factory=list)
    """Rows of history by line."""
    summary: Json = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None
    sessions: int = 0
    """How often the client has said that the run is complete."""

    @property
    def config(self) -> Json:
        """Values by key, without the client's own."""
        sent = json.loads(self.about.get("config") or "{}")
        return {key: each["value"] for key, each in sent.items() if key != "_wandb"}

    @property
    def metrics(self) -> list[Json]:
        """What the client said of how metrics are drawn and summarised, with the server's short names for it."""
        sent = json.loads(self.about.get("config") or "{}")
        return list(sent["_wandb"]["value"].get("m", []))

    def steps(self, key: str) -> list[int]:
        """Steps of the rows that have ``key``, in the order of lines."""
        return [row["_step"] for row in self.lines if key in row]

    def table(self, name: str) -> Json:
        """The table of that name, which the summary holds, or else the last row that has one."""
        held = next(row[name] for row in (self.summary, *reversed(self.lines)) if name in row)
        found: Json = json.loads(self.files[held["path"]])
        return found


class Server:
    """All that was sent."""

    def __init__(self) -> None:
        self.runs: dict[str, SentRun] = {}
        self.artifacts: dict[str, Json] = {}
        """Inputs of the mutations that made them, by name and digest."""
        self.uploads: dict[str, bytes] = {}
        self.views: dict[str, Json] = {}
        """Workspaces and reports by id."""
        self.asked: list[tuple[str, Json]] = []
        """Every operation with its variables."""
        self.unknown: list[str] = []
        self.refused: set[str] = set()
        """Operations that are answered with an error."""
        self.url = ""

    # what a client asks

    def answer(self, operation: str, variables: Json) -> Json | None:
        """The data of a GraphQL operation; None where it is not known."""
        self.asked.append((operation, variables))
        known = getattr(self, f"on_{operation}", None)
        if known is None:
            self.unknown.append(operation)
        if known is None or operation in self.refused:
            return None
        return known(variables)

    def on_Viewer(self, _: Json) -> Json:
        return {"viewer": {"id": "u", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}", "teams": {"edges": []}}}

    on_GetDefaultEntity = on_Viewer

    def on_ServerFeaturesQuery(self, _: Json) -> Json:
        return {"serverInfo": {"features": []}}

    def on_OrganizationCoreWeaveOrganizationID(self, _: Json) -> Json:
        return {"entity": {"organization": {"coreWeaveOrganizationId": ""}}}

    def on_RunResumeStatus(self, asked: Json) -> Json:
        run = self.runs.get(asked["name"])
        bucket = None if run is None or not run.about else _resumed(run)
        entity = {"id": "e", "name": ENTITY}
        return {"model": {"id": "p", "name": asked["project"], "entity": entity, "bucket": bucket}}

    def on_Run(self, asked: Json) -> Json:
        run = self.runs.get(asked["name"])
        return {"project": {"run": None if run is None else _public(run)}}

    def on_RunHistoryKeys(self, asked: Json) -> Json:
        return self.on_Run(asked)

    def on_UpsertBucket(self, sent: Json) -> Json:
        name = sent["name"] or sent["id"]
        is_new = name not in self.runs
        run = self.runs.setdefault(name, SentRun(sent["entity"] or ENTITY, sent["project"], name))
        run.about |= {key: value for key, value in sent.items() if value is not None}
        project = {"id": "p", "name": run.project, "entity": {"id": "e", "name": run.entity}}
        names = {"id": f"id-{name}", "name": name, "displayName": run.about.get("displayName", name), "project": project}
        about = {"description": None, "config": None, "sweepName": None, "historyLineCount": len(run.lines)}
        return {"upsertBucket": {"bucket": {**names, **about}, "inserted": is_new}}

    def on_NotifyScriptableRunAlert(self, sent: Json) -> Json:
        return {"notifyScriptableRunAlert": {"success": True}}

    def on_CreateRunFiles(self, sent: Json) -> Json:
        files = [{"name": name, "uploadUrl": self._place(f"{sent['run']}/{name}")} for name in sent["files"]]
        return {"createRunFiles": {"runID": sent["run"], "uploadHeaders": [], "files": files}}

    def on_RunStoppedStatus(self, _: Json) -> Json:
        return {"project": {"run": {"stopped": False}}}

    def on_XXHashDigestsEnabled(self, _: Json) -> Json:
        return {"entity": {"xxhashDigestsEnabled": False}}

    def on_ArtifactType(self, asked: Json) -> Json:
        name = asked["name"].partition(":")[0]
        types = [made["artifactTypeName"] for made in self.artifacts.values() if made["artifactCollectionName"] == name]
        return {"project": {"artifact": {"artifactType": {"name": types[0]}} if types else None}}

    def on_CreateArtifact(self, sent: Json) -> Json:
        made = sent["input"]
        key = f"{made['artifactCollectionName']}:{made['digest']}"
        known = key in self.artifacts
        self.artifacts.setdefault(key, made)
        latest = {"id": key, "versionIndex": 0}
        sequence = {"latestArtifact": latest if known else None}
        state = "COMMITTED" if known else "PENDING"
        return {"createArtifact": {"artifact": {"id": key, "state": state, "artifactSequence": sequence}}}

    def on_CreateArtifactManifest(self, sent: Json) -> Json:
        file = {"id": "m", "uploadUrl": self._place(f"{sent['runName']}/{sent['name']}"), "uploadHeaders": []}
        return {"createArtifactManifest": {"artifactManifest": {"id": f"manifest:{sent['artifactID']}", "file": file}}}

    def on_UpdateArtifactManifest(self, sent: Json) -> Json:
        file = {"id": "m", "uploadUrl": self._place(f"manifests/{sent['artifactManifestID']}"), "uploadHeaders": []}
        return {"updateArtifactManifest": {"artifactManifest": {"id": sent["artifactManifestID"], "file": file}}}

    def on_CreateArtifactFiles(self, sent: Json) -> Json:
        edges = []
        for spec in sent["input"]["artifactFiles"]:
            place = self._place(f"artifacts/{spec['artifactID']}/{spec['name']}")
            node = {"id": "f", "name": spec["name"], "displayName": spec["name"], "storagePath": spec["name"]}
            upload = {"uploadUrl": place, "uploadHeaders": [], "uploadMultipartUrls": None}
            edges.append({"node": {**node, **upload, "artifact": {"id": spec["artifactID"]}}})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def on_CommitArtifact(self, sent: Json) -> Json:
        return {"commitArtifact": {"artifact": {"id": sent["artifactID"], "digest": ""}}}

    def on_UseArtifact(self, sent: Json) -> Json:
        return {"useArtifact": {"artifact": {"id": sent["input"]["artifactID"], "digest": ""}}}

    def on_UpsertView2(self, sent: Json) -> Json:
        known = sent.get("id")
        view = self.views.setdefault(known or f"Vmlldzo{len(self.views)}", {})
        view |= {"id": known or f"Vmlldzo{len(self.views) - 1}", **{key: each for key, each in sent.items() if key != "id"}}
        view["project"] = {"id": "p", "name": view["projectName"], "entityName": view["entityName"]}
        return {"upsertView": {"view": {**view, "updatedAt": "2026-01-01T00:00:00"}, "inserted": known is None}}

    on_upsertView = on_UpsertView2

    def on_View(self, asked: Json) -> Json:
        found = [{"node": view} for view in self.views.values() if view["name"] == asked["viewName"]]
        return {"project": {"allViews": {"edges": found}}}

    def on_SpecificReport(self, asked: Json) -> Json:
        return {"view": self.views.get(asked["reportId"])}

    def on_ProjectInternalId(self, asked: Json) -> Json:
        return {"project": {"internalId": "1"}}

    def on_GetProjects(self, asked: Json) -> Json:
        names = sorted({run.project for run in self.runs.values()} | {view["projectName"] for view in self.views.values()})
        about = {
            "__typename": "Project",
            "id": "p",
            "entityName": ENTITY,
            "createdAt": "2026-01-01T00:00:00",
            "isBenchmark": False,
        }
        edges = [{"node": {**about, "name": name, "user": None}} for name in names]
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"pageInfo": page, "edges": edges}}

    def stream(self, name: str, body: Json) -> None:
        """Rows, a summary, or the end of a run."""
        run = self.runs[name]
        files = body.get("files", {})
        if history := files.get("wandb-history.jsonl"):
            rows = [json.loads(line) for line in history["content"]]
            run.lines[history["offset"] : history["offset"] + len(rows)] = rows
        if summary := files.get("wandb-summary.json"):
            run.summary = json.loads(summary["content"][-1])
        if body.get("complete"):
            run.exit_code, run.sessions = body["exitcode"], run.sessions + 1

    def put(self, path: str, content: bytes) -> None:
        """A file, of a run or of an artifact."""
        self.uploads[path] = content
        name, _, inner = path.partition("/")
        if name in self.runs:
            self.runs[name].files[inner] = content

    def _place(self, path: str) -> str:
        return f"{self.url}/put/{quote(path)}"


def _public(run: SentRun) -> Json:
    keys = {"lastStep": run.lines[-1]["_step"], "keys": {}, "sets": []} if run.lines else None
    about = {"id": f"id-{run.id}", "projectId": "1", "name": run.id, "state": "finished", "historyKeys": keys}
    names = {
        "displayName": run.about.get("displayName"),
        "group": run.about.get("groupName"),
        "jobType": run.about.get("jobType"),
    }
    others = dict.fromkeys(("sweepName", "commit", "createdAt", "heartbeatAt", "description", "notes"))
    others |= {"user": {"name": ENTITY, "username": ENTITY}, "systemMetrics": "{}"}
    return {**about, **names, **others, "config": "{}", "summaryMetrics": "{}", "tags": [], "historyLineCount": len(run.lines)}


def _resumed(run: SentRun) -> Json:
    tail = json.dumps([json.dumps(run.lines[-1])] if run.lines else [])
    counts = {"logLineCount": 0, "historyLineCount": len(run.lines), "eventsLineCount": 0}
    tails = {"historyTail": tail, "eventsTail": "[]", "summaryMetrics": json.dumps(run.summary)}
    about = {"config": run.about.get("config"), "tags": run.about.get("tags") or [], "notes": None, "wandbConfig": '{"t": {}}'}
    return {"id": f"id-{run.id}", "name": run.id, "displayName": run.about.get("displayName"), **counts, **tails, **about}
