// The check's own page, never shipped: given rows through the model, then the demonstration if asked for.
import {about, load} from "./model.js";
import {milliseconds, rows} from "./golden.js";

const post = (path, body) => fetch(path, {method: "POST", body});

function shown(frame) {
  return new Promise(resolve => {
    const look = () => {
      const root = frame.contentDocument?.documentElement;
      if (root?.dataset.state) resolve({state: root.dataset.state, outcome: root.querySelector("#outcome").textContent});
      else setTimeout(look, 50);
    };
    look();
  });
}

async function check() {
  const start = performance.now(), model = await load(), load_ms = performance.now() - start;
  const content = new Uint8Array(await (await fetch("-/rows")).arrayBuffer());
  const row = about.inputs.reduce((sum, each) => sum + each.bytes, 0);
  const given = rows(content, about.inputs, row ? content.length / row : 1), answers = [];
  for (const each of given) {
    const found = await model.run(each);
    answers.push(...about.outputs.map(spec => found[spec.name]));
  }
  await post("-/answers", new Blob(answers));
  const run_ms = await milliseconds(model, given[0]);
  await model.close();
  let demonstration = {};
  if (location.search === "?demo") {
    const frame = document.createElement("iframe");
    frame.src = "index.html";
    document.body.append(frame);
    demonstration = await shown(frame);
  }
  await post("-/done", JSON.stringify({load_ms, run_ms, ...demonstration}));
}

check().catch(error => post("-/problem", String(error.message ?? error)));
