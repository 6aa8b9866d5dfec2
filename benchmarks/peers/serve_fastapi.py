"""A pipeline of `transformers` behind FastAPI, as its documentation and most of the web write it."""

import os
import sys

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
classify = pipeline("text-classification", model=sys.argv[1], top_k=None)
app = FastAPI()


class Asked(BaseModel):
    text: str


@app.post("/predict")
def predict(asked: Asked):
    return classify(asked.text, truncation=True, max_length=128)


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), access_log=False)
