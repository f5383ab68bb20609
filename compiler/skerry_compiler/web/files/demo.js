// The demonstration: every golden vector through the model, in this browser.
import {about, load} from "./model.js";
import {difference, milliseconds, vectors} from "./golden.js";

const show = (id, words) => {
  document.getElementById(id).textContent = words;
};

async function demonstrate() {
  const start = performance.now(), model = await load(), loaded = performance.now() - start;
  const {given, known} = await vectors(), wrong = [];
  for (let i = 0; i < given.length; i++) {
    const fault = difference(await model.run(given[i]), known[i]);
    document.getElementById("rows").append(line(i, fault));
    if (fault) wrong.push(i);
  }
  const right = `${given.length - wrong.length} of ${given.length} answers are right`;
  show("outcome", right);
  const each = (await milliseconds(model, given[0])).toFixed(4);
  show("times", `loaded in ${loaded.toFixed(0)} ms; one inference takes ${each} ms here`);
  await model.close();
  return !wrong.length;
}

function line(number, fault) {
  const item = document.createElement("li");
  item.textContent = fault ? `vector ${number}: ${fault}` : `vector ${number}: right`;
  item.className = fault ? "wrong" : "right";
  return item;
}

const {model: name, version, release, engine, precision, file} = about;
show("about", `${name} ${version} (release ${release}), ${engine}, ${precision}, ${file.bytes} bytes`);
try {
  document.documentElement.dataset.state = (await demonstrate()) ? "passed" : "failed";
} catch (error) {
  show("outcome", String(error.message ?? error));
  document.documentElement.dataset.state = "failed";
}
