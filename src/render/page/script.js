(function(){"use strict";
var box=document.getElementById("tools"),q=document.querySelector("input[type=search]"),who=document.getElementById("project"),said=document.getElementById("found"),typed=0;
function keep(n,v){try{if(v===undefined)return sessionStorage.getItem("orch-"+n)||"";sessionStorage.setItem("orch-"+n,v)}catch(e){}return ""}
function show(){
  var words=q.value.toLowerCase().split(/\s+/).filter(Boolean),project=who?who.value:"",left=0;
  document.querySelectorAll("article[data-key]").forEach(function(a){
    var text=a.textContent.toLowerCase(),ok=words.every(function(w){return text.indexOf(w)>=0})&&(!project||a.dataset.project===project);
    a.hidden=!ok;if(ok)left++});
  said.textContent=words.length||project?left+" shown":""}
if(q){box.hidden=false;q.value=keep("search");if(who)who.value=keep("project");
  q.addEventListener("input",function(){typed=Date.now();keep("search",q.value);show()});
  if(who)who.addEventListener("change",function(){keep("project",who.value);show()});
  document.addEventListener("keydown",function(e){if(e.key==="/"&&document.activeElement!==q){e.preventDefault();q.focus()}});
  show()}
setInterval(function(){if(document.activeElement===q&&Date.now()-typed<60000)return;location.reload()},60000);
})();
